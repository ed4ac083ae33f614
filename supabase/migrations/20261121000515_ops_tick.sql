-- What happens by the clock: ops.tick() and ops.sweep() are called every few seconds by pg_cron on the hosted platform
-- and by a timer on the local stack, each by itself. A tick works no job: it moves what is due, and wakes a worker when
-- there is work and none is alive. Sweeps run apart, so that nothing waits for them.

create table ops.sweeps (
  name text primary key,
  function_name text not null,
  every interval not null,
  is_long boolean not null default false,
  next_run_at timestamptz not null default now(),
  last_error text,
  created_at timestamptz not null default now(),
  constraint sweeps_function_name_shape check (function_name ~ '^[a-z_]+\.[a-z_]+$'),
  constraint sweeps_every_positive check (every > interval '0')
);
comment on table ops.sweeps is 'SQL functions without arguments that ops.sweep() runs at intervals.';
comment on column ops.sweeps.is_long is
  'May take minutes (a proof of the books): it runs apart, so that nothing waits for it.';
alter table ops.sweeps enable row level security;
revoke all on table ops.sweeps from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.sweeps to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('close unmatched webhooks', 'ops.close_unmatched_webhooks', interval '10 minutes'),
  ('reopen limit keys', 'ops.reopen_limit_keys', interval '5 seconds'),
  ('prune starts', 'ops.prune_starts', interval '10 minutes'),
  ('prune flows', 'ops.prune_flows', interval '1 minute'),
  ('prune finished jobs', 'ops.prune_finished_jobs', interval '1 minute'),
  ('prune job attempts', 'ops.prune_job_attempts', interval '10 minutes'),
  ('prune webhook events', 'ops.prune_webhook_events', interval '10 minutes'),
  ('prune clock runs', 'ops.prune_clock_runs', interval '1 hour');

-- Runs the sweep that has been due longest, if any; two calls at once never run the same one. A sweep that fails, or is
-- stopped because its statement's time is over, is noted and tried again at its next time, and does not stop the
-- others. Returns whether one ran.
create function ops._run_sweep(is_long boolean) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_sweep ops.sweeps;
  v_error text;
begin
  select * into v_sweep from ops.sweeps s
  where s.next_run_at <= private.now() and s.is_long = _run_sweep.is_long
  order by s.next_run_at limit 1 for update skip locked;
  if not found then
    return false;
  end if;
  begin
    execute 'select ' || v_sweep.function_name || '()';
  exception when others or query_canceled then
    v_error := sqlerrm;
  end;
  update ops.sweeps s set next_run_at = private.now() + s.every, last_error = v_error where s.name = v_sweep.name;
  return true;
end $$;
comment on function ops._run_sweep(boolean) is 'Runs the sweep that has been due longest, at most once at a time.';
revoke all on function ops._run_sweep from public, anon, authenticated, service_role;

-- Starts a worker invocation through pg_net on the hosted platform: address and key come from the vault
-- (names backlot_functions_url and backlot_secret_key). Elsewhere the notify of _wake_worker is enough.
create function ops._invoke_worker() returns void
language plpgsql
set search_path = ''
as $$
declare
  v_url text;
  v_key text;
begin
  if to_regprocedure('net.http_post(text,jsonb,jsonb,jsonb,integer)') is null
    or to_regclass('vault.decrypted_secrets') is null then
    return;
  end if;
  execute $sql$
    select (select decrypted_secret from vault.decrypted_secrets where name = 'backlot_functions_url'),
      (select decrypted_secret from vault.decrypted_secrets where name = 'backlot_secret_key')
  $sql$ into v_url, v_key;
  if v_url is null or v_key is null then
    return;
  end if;
  execute 'select net.http_post(url => $1, body => ''{}''::jsonb, headers => $2)'
    using v_url || '/worker', jsonb_build_object('content-type', 'application/json', 'apikey', v_key);
end $$;
comment on function ops._invoke_worker() is 'Calls the worker function through pg_net where the platform has it.';
revoke all on function ops._invoke_worker from public, anon, authenticated, service_role;

-- How many jobs may be claimed, counted no further than most: those in line, those that have arrived, and those that
-- slots came free for. Not in SQL alone: that would be planned anew in every call.
create function ops._count_ready_jobs(most integer) returns integer
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  return (select count(*)::integer from (
    (select from ops.ready r where r.lane = 0 and r.tag >= (select s.last_value from ops.lane_0_front s)
      order by r.lane, r.tag limit most)
    union all
    (select from ops.ready r where r.lane = 1 and r.tag >= (select s.last_value from ops.lane_1_front s)
      order by r.lane, r.tag limit most)
    union all
    (select from ops.ready r where r.lane = 2 and r.tag >= (select s.last_value from ops.lane_2_front s)
      order by r.lane, r.tag limit most)
    union all
    (select from ops.arrivals a cross join unnest(a.job_ids) limit most)
    union all
    (select from ops.openings o where exists (select from ops.held_back) limit 1)
    union all
    (select from ops.limit_keys k where k.opens_at <= private.now() limit 1)
    limit most
  ) ready);
end $$;
comment on function ops._count_ready_jobs(integer) is 'How many jobs may be claimed now, counted up to a limit.';
revoke all on function ops._count_ready_jobs from public, anon, authenticated, service_role;

-- Wakes a worker when none is alive: through pg_net where the platform has it, through notify for the
-- local stack's listener. Called whenever a job becomes ready; a wake-up that falls between a worker's
-- last look and its end is made good by ops.tick(). Of transactions that run at the same time one wakes for
-- all: notify makes commits queue behind each other (a third of the throughput), and one call is enough.
create function ops._wake_worker() returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from ops.workers w where w.expires_at > private.now())
    or not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('ops._wake_worker', 0)) then
    return;
  end if;
  perform pg_catalog.pg_notify('backlot_worker', '');
  perform ops._invoke_worker();
end $$;
comment on function ops._wake_worker() is 'Wakes a worker when none is alive.';
revoke all on function ops._wake_worker from public, anon, authenticated, service_role;

-- Called by the clock every few seconds. Returns what it did, for the log. No sweep is run here: one that is slow would
-- keep lost jobs waiting, and both lock wallets, each in order; in one transaction the two orders would meet.
create function ops.tick() returns table (moved integer, scheduled integer, ready boolean)
language plpgsql security definer
set search_path = ''
as $$
begin
  moved := ops._end_overdue_jobs(1000) + ops._promote_due_jobs(1000);
  scheduled := ops.run_due_schedules();
  perform ops._tidy_line();
  ready := ops._count_ready_jobs(1) > 0;
  if ready then
    perform ops._wake_worker();
  end if;
  return next;
end $$;
comment on function ops.tick() is
  'Called by the clock: moves due jobs, runs due schedules, wakes a worker when work is ready.';
revoke all on function ops.tick from public, anon, authenticated, service_role;
grant execute on function ops.tick to service_role;

-- Runs one due sweep, or one of those that take long. The clock calls it until none is due, each time in a transaction
-- of its own; calls at the same time share the work. Returns whether one was due.
create function ops.sweep(is_long boolean default false) returns boolean
language sql security definer
set search_path = ''
as $$ select ops._run_sweep(is_long) $$;
comment on function ops.sweep(boolean) is 'Runs the sweep that has been due longest; returns whether there was one.';
revoke all on function ops.sweep from public, anon, authenticated, service_role;
grant execute on function ops.sweep to service_role;

-- pg_cron notes every run of its jobs and forgets none: 60,000 a day.
create function ops.prune_clock_runs() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_pruned integer := 0;
begin
  if to_regclass('cron.job_run_details') is not null then
    execute 'delete from cron.job_run_details where end_time < $1' using ops._kept_since('clock runs');
    get diagnostics v_pruned = row_count;
  end if;
  return v_pruned;
end $$;
comment on function ops.prune_clock_runs() is 'Sweep: deletes pg_cron''s notes of old runs; returns how many.';
revoke all on function ops.prune_clock_runs from public, anon, authenticated, service_role;
grant execute on function ops.prune_clock_runs to service_role;

-- A worker invocation asks whether it may run. lease: how long it counts as alive without a sign.
-- Useful copies: one for every 20 ready jobs, at least one, at most most_workers.
create function ops.begin_worker(worker text, most_workers integer default 4, lease interval default '30 seconds')
returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_alive integer;
  v_ready integer := ops._count_ready_jobs(20 * most_workers);
begin
  perform pg_advisory_xact_lock(hashtextextended('ops.workers', 0));
  delete from ops.workers w where w.expires_at <= private.now();
  select count(*) into v_alive from ops.workers;
  if v_alive >= least(most_workers, greatest(1, ceil(v_ready / 20.0))) then
    return false;
  end if;
  insert into ops.workers (worker, expires_at) values (begin_worker.worker, private.now() + begin_worker.lease);
  return true;
end $$;
comment on function ops.begin_worker is 'Registers a worker invocation; false when enough copies are running.';
revoke all on function ops.begin_worker from public, anon, authenticated, service_role;
grant execute on function ops.begin_worker to service_role;

-- A sign of life of a worker invocation.
create function ops.touch_worker(worker text, lease interval default '30 seconds') returns void
language sql security definer
set search_path = ''
as $$
  update ops.workers w set expires_at = private.now() + touch_worker.lease where w.worker = touch_worker.worker
$$;
comment on function ops.touch_worker is 'Keeps a worker invocation registered for another lease.';
revoke all on function ops.touch_worker from public, anon, authenticated, service_role;
grant execute on function ops.touch_worker to service_role;

-- A worker invocation ends. True when ready work is left and nobody else is alive to do it: the
-- caller then hands on to a fresh invocation.
create function ops.end_worker(worker text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from ops.workers w where w.worker = end_worker.worker;
  return ops._count_ready_jobs(1) > 0
    and not exists (select from ops.workers w where w.expires_at > private.now());
end $$;
comment on function ops.end_worker is 'Removes a worker invocation; true when work is left for a fresh one.';
revoke all on function ops.end_worker from public, anon, authenticated, service_role;
grant execute on function ops.end_worker to service_role;

-- The hosted platform's clock; supabase/local/timer.ts is the local stack's. pg_cron begins a job again only when its
-- last run has ended, and sends the text of a job at once: the loop can commit because nothing stands beside it. It
-- ends when no sweep is due, and after 50 seconds, within the platform's limit of two minutes for a statement. That
-- limit has to be lifted before a statement begins, so the long sweeps (a few a day) come one by one. A schedule is
-- '[1-59] seconds' or has the five fields of cron; pg_cron takes nothing else.
do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_cron')
    and exists (select from pg_available_extensions where name = 'pg_net') then
    create extension if not exists pg_cron with schema pg_catalog;
    create extension if not exists pg_net with schema extensions;
    execute $sql$select cron.schedule('backlot-tick', '5 seconds', 'select ops.tick()'),
      cron.schedule('backlot-sweeps', '2 seconds', 'do $do$ begin
        while ops.sweep() loop
          commit;
          exit when clock_timestamp() > statement_timestamp() + interval ''50 seconds'';
        end loop;
      end $do$'),
      cron.schedule('backlot-long-sweeps', '* * * * *', 'set statement_timeout = 0; select ops.sweep(true)')$sql$;
  end if;
end $$;
