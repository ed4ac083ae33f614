-- A plan may weigh more than another in the queue: the workspace gets that share of its capacity beside others.

create function private.weigh_workspaces(workspace_ids uuid[]) returns void
language sql security definer
set search_path = ''
as $$
  select ops.set_workspace_weight(w.id, coalesce((select max(p.queue_weight) from billing.subscriptions s
    join billing.plans p on p.id = s.plan_id
    where s.workspace_id = w.id and s.status in ('active', 'trialing', 'past_due')), 1))
  from unnest(workspace_ids) w (id)
  -- whoever has always had the usual share needs no row
  where exists (select from billing.subscriptions s join billing.plans p on p.id = s.plan_id
      where s.workspace_id = w.id and p.queue_weight <> 1)
    or exists (select from ops.weights o where o.flow = w.id and o.weight <> 1)
$$;
comment on function private.weigh_workspaces(uuid[]) is 'Gives workspaces the weight of their plans in the queue.';
revoke all on function private.weigh_workspaces from public, anon, authenticated, service_role;

create function private.weigh_subscription() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.weigh_workspaces(array[new.workspace_id]);
  return null;
end $$;
comment on function private.weigh_subscription() is
  'Trigger: a subscription''s plan weighs its workspace in the queue.';
revoke all on function private.weigh_subscription from public, anon, authenticated, service_role;
create trigger weigh_subscription after insert or update of plan_id, status on billing.subscriptions
  for each row execute function private.weigh_subscription();

create function private.weigh_plan() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.weigh_workspaces(array(select s.workspace_id from billing.subscriptions s
    where s.plan_id = new.id));
  return null;
end $$;
comment on function private.weigh_plan() is 'Trigger: a changed weight reaches the workspaces of the plan.';
revoke all on function private.weigh_plan from public, anon, authenticated, service_role;
create trigger weigh_plan after update of queue_weight on billing.plans
  for each row when (old.queue_weight is distinct from new.queue_weight)
  execute function private.weigh_plan();
