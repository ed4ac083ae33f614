-- A longer trial where the provider keeps the trial: it must not charge at the old end. The provider is told by a job;
-- its event brings the new end into the subscription. A grant that is revoked later cuts no trial short there.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.extend_trial', 'Moves the end of a trial at Stripe to where staff have put it.', null, interval '2 days');

create function private.extend_trial(g billing.admin_grants) returns void
language sql
set search_path = ''
as $$
  select j.job_id
  from billing.subscriptions s
  cross join lateral ops.enqueue_job('billing.extend_trial', jsonb_build_object('admin_grant_id', g.id),
    g.workspace_id, max_attempts => 20, key => 'extend_trial:' || g.id) j
  where s.workspace_id = g.workspace_id and s.app = g.app and s.provider = 'stripe' and s.status = 'trialing'
    and s.trial_end < g.expires_at
$$;
comment on function private.extend_trial(billing.admin_grants) is 'Has the provider told of a longer trial it keeps.';
revoke all on function private.extend_trial from public, anon, authenticated, service_role;
