-- Every function and procedure of the schemas in $1, in the shape of catalog/types.ts.
select
  n.nspname as schema,
  p.proname as name,
  pg_get_function_identity_arguments(p.oid) as identity,
  pg_get_function_arguments(p.oid) as arguments,
  coalesce(pg_get_function_result(p.oid), '') as returns,
  obj_description(p.oid, 'pg_proc') as comment,
  p.prosecdef as definer,
  case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
  p.prorettype in ('trigger'::regtype, 'event_trigger'::regtype) as "isTrigger",
  coalesce(p.proconfig, '{}') as settings,
  coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) as source,
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'role', case when x.grantee = 0 then 'public' else x.grantee::regrole::text end,
      'privilege', lower(x.privilege_type),
      'columns', null
    ) order by x.grantee::regrole::text), '[]')
    from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
    where x.grantee <> p.proowner
  ) as grants
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any ($1::text[])
  and p.prokind in ('f', 'p')
  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
order by n.nspname, p.proname, identity
