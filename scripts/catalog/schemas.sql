-- Schemas that are not among the platform's ($1), with their grants.
select
  n.nspname as name,
  obj_description(n.oid, 'pg_namespace') as comment,
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'role', case when x.grantee = 0 then 'public' else x.grantee::regrole::text end,
      'privilege', lower(x.privilege_type),
      'columns', null
    ) order by x.grantee::regrole::text, x.privilege_type), '[]')
    from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
    where x.grantee <> n.nspowner
  ) as grants
from pg_namespace n
where n.nspname <> all ($1::text[])
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by n.nspname
