-- Every table and view of the schemas in $1, with all that belongs to it, as JSON in the shape of catalog/types.ts.
select
  n.nspname as schema,
  c.relname as name,
  case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
    else 'materialized view' end as kind,
  obj_description(c.oid, 'pg_class') as comment,
  c.relrowsecurity as "rowSecurity",
  coalesce('security_invoker=true' = any (c.reloptions) or 'security_invoker=on' = any (c.reloptions), false)
    as "securityInvoker",
  c.relispartition as "isPartition",
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', a.attname,
      'type', format_type(a.atttypid, a.atttypmod),
      'nullable', not a.attnotnull,
      'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end,
      'generated', case
        when a.attidentity = 'a' then 'always'
        when a.attidentity = 'd' then 'by default'
        when a.attgenerated = 's' then 'stored'
      end,
      'comment', col_description(c.oid, a.attnum)
    ) order by a.attnum), '[]')
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ) as columns,
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', k.conname,
      'type', case k.contype when 'p' then 'primary key' when 'u' then 'unique' when 'f' then 'foreign key'
        when 'c' then 'check' when 'x' then 'exclusion' end,
      'columns', (
        select coalesce(jsonb_agg(a.attname order by u.i), '[]')
        from unnest(k.conkey) with ordinality u (attnum, i)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
      ),
      'definition', pg_get_constraintdef(k.oid),
      'references', case when k.contype = 'f' then jsonb_build_object(
        'table', (
          select tn.nspname || '.' || t.relname
          from pg_class t join pg_namespace tn on tn.oid = t.relnamespace where t.oid = k.confrelid
        ),
        'columns', (
          select jsonb_agg(a.attname order by u.i)
          from unnest(k.confkey) with ordinality u (attnum, i)
          join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum
        )
      ) end
    ) order by position(k.contype::text in 'pufxc'), k.conname), '[]')
    from pg_constraint k
    where k.conrelid = c.oid and k.contype in ('p', 'u', 'f', 'c', 'x')
  ) as constraints,
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', ic.relname,
      'definition', pg_get_indexdef(i.indexrelid),
      'columns', (
        select coalesce(jsonb_agg(a.attname order by u.i), '[]')
        from unnest(i.indkey::smallint[]) with ordinality u (attnum, i)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = u.attnum
        where u.i <= i.indnkeyatts
          and u.i < coalesce((
            select min(e.i) from unnest(i.indkey::smallint[]) with ordinality e (attnum, i) where e.attnum = 0
          ), 1000)
      ),
      'unique', i.indisunique,
      'predicate', pg_get_expr(i.indpred, i.indrelid),
      'ofConstraint', exists (
        select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
      )
    ) order by ic.relname), '[]')
    from pg_index i
    join pg_class ic on ic.oid = i.indexrelid
    where i.indrelid = c.oid
  ) as indexes,
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', p.polname,
      'command', case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
        when 'd' then 'delete' else 'all' end,
      'permissive', p.polpermissive,
      'roles', (
        select jsonb_agg(case when r.oid = 0 then 'public' else r.oid::regrole::text end order by r.oid::regrole::text)
        from unnest(p.polroles) r (oid)
      ),
      'using', pg_get_expr(p.polqual, p.polrelid),
      'check', pg_get_expr(p.polwithcheck, p.polrelid)
    ) order by p.polname), '[]')
    from pg_policy p
    where p.polrelid = c.oid
  ) as policies,
  (
    select coalesce(jsonb_agg(jsonb_build_object('role', g.role, 'privilege', g.privilege, 'columns', g.columns)
      order by g.role, g.privilege, g.columns is not null), '[]')
    from (
      select case when x.grantee = 0 then 'public' else x.grantee::regrole::text end as role,
        lower(x.privilege_type) as privilege, null::text[] as columns
      from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
      where x.grantee <> c.relowner
      union all
      select case when x.grantee = 0 then 'public' else x.grantee::regrole::text end,
        lower(x.privilege_type), array_agg(a.attname::text order by a.attnum)
      from pg_attribute a cross join lateral aclexplode(a.attacl) x
      where a.attrelid = c.oid and x.grantee <> c.relowner
      group by 1, 2
    ) g
  ) as grants,
  (
    select coalesce(jsonb_agg(jsonb_build_object('name', t.tgname, 'definition', pg_get_triggerdef(t.oid))
      order by t.tgname), '[]')
    from pg_trigger t
    where t.tgrelid = c.oid and not t.tgisinternal
  ) as triggers
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any ($1::text[])
  and c.relkind in ('r', 'p', 'v', 'm')
  and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
order by n.nspname, c.relname
