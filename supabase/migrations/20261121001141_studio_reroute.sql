-- Creations that wait for a provider which is out of reach, or asked to wait, while another one is open.

-- Sweep: has them made elsewhere. Their job at the closed provider is cancelled, one at the open provider takes its
-- place, and the charge stays. What has begun to run at the closed one waits for its result. Returns how many moved.
create function studio.reroute_creations() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_held record;
  v_job ops.live_jobs;
  v_creation studio.creations;
  v_model studio.provider_models;
  v_moved integer := 0;
begin
  for v_held in
    select h.job_id, h.ticket, p.provider from studio.providers p
    join ops.held_back h on h.key = ops._limit_key('provider:' || p.provider)
    where private.provider_is_closed(p.provider) order by h.lane, h.tag, h.job_id limit 500
  loop
    -- who works on it, or ends it at this moment, needs no help
    select * into v_job from ops.live_jobs j where j.id = v_held.job_id and j.ticket = v_held.ticket
      and j.state = 'queued' and j.kind = 'studio.creation' and j.parent_id is null
      and not j.checkpoint @? '$.runs[0]' for update skip locked;
    continue when not found or exists (select from ops.claims c where v_job.id = any (c.job_ids));
    -- many workspaces in no order: one whose things are being deleted has its turn next time
    continue when not pg_catalog.pg_try_advisory_xact_lock_shared(
      pg_catalog.hashtextextended('studio:' || v_job.workspace_id, 0));
    select * into v_creation from studio.creations c where c.job_id = v_job.id;
    continue when not found;
    v_model := private.choose_provider_model(v_creation);
    continue when v_model.id is null or private.provider_is_closed(v_model.provider);
    update studio.creation_attempts a set status = 'passed_over', ended_at = private.now()
    where a.job_id = v_job.id and a.ended_at is null;
    perform private.correlate_as(v_job.correlation_id);
    perform private.begin_creation_attempt(v_creation, v_model);
    -- the creation listens to its new job by now
    perform ops.cancel_job(v_job.id);
    v_moved := v_moved + 1;
  end loop;
  perform private.correlate_as(null);
  return v_moved;
end $$;
comment on function studio.reroute_creations() is
  'Sweep: moves creations from closed providers to open ones; returns how many.';
revoke all on function studio.reroute_creations from public, anon, authenticated, service_role;
grant execute on function studio.reroute_creations to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('reroute creations', 'studio.reroute_creations', interval '5 seconds');

-- Source: https://replicate.com/docs/topics/predictions/rate-limits, 600 predictions created a minute.
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('provider', 'replicate', null, 600, interval '1 minute', 'Jobs that may start at Replicate in a minute.');
