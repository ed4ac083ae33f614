-- The sums of usage and the counts of budgets are made from charges; each night they are held against them.

-- Sweep: makes the sums of workspaces whose sums are wrong anew, and puts what was wrong, with sums or budgets, into
-- the audit log as critical. Returns how many faults there were.
create function billing.prove_usage() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_faults jsonb;
  v_workspace uuid;
begin
  select coalesce(jsonb_agg(to_jsonb(f)), '[]') into v_faults
  from (select * from billing.verify_usage() union all select * from billing.verify_budgets()) f;
  if jsonb_array_length(v_faults) > 0 then
    insert into ops.audit_log (event_id, action, resource, target_id, status, error_message, risk_level, metadata)
    values ('usage_proof:' || gen_random_uuid(), 'billing.usage.fault', 'billing.usage_rollups',
      v_faults -> 0 ->> 'workspace_id', 'failure', format('%s faults in the sums of usage or budgets',
        jsonb_array_length(v_faults)), 'critical', jsonb_build_object('first', v_faults -> 0));
  end if;
  for v_workspace in
    select distinct (f ->> 'workspace_id')::uuid from jsonb_array_elements(v_faults) f
    where f ->> 'fault' = 'sum of usage differs' order by 1
  loop
    perform billing.rebuild_usage(v_workspace);
  end loop;
  return jsonb_array_length(v_faults);
end $$;
comment on function billing.prove_usage() is
  'Sweep: holds sums of usage and budgets against the charges, rebuilds wrong sums; returns how many faults.';
revoke all on function billing.prove_usage from public, anon, authenticated, service_role;
grant execute on function billing.prove_usage to service_role;
insert into ops.sweeps (name, function_name, every, is_long) values
  ('prove the sums of usage', 'billing.prove_usage', interval '1 day', true);
