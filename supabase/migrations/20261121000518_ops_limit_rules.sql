-- Rules of limits, as they change while jobs are at work under them, and the rules that are there from the beginning.

-- Counts under every rule what is at work already, for a rule that was not there when it began. Takes the claim's lock
-- until the rule is committed. What is ending or beating at this moment is passed over: whoever holds it may be
-- waiting for the lock.
create function ops._count_slots_anew() returns void
language plpgsql
set search_path = ''
as $$
declare
  v_claims bigint[];
begin
  perform pg_catalog.pg_advisory_xact_lock(ops._claim_lock());
  v_claims := array(select c.id from ops.claims c where c.worker <> '' for update skip locked);
  update ops.claims c set slot_jobs = c.slot_jobs || a.jobs, slot_keys = c.slot_keys || a.keys
  from (
    select o.id, array_agg(r.job_id) as jobs, array_agg(r.key) as keys
    from ops.claims o cross join lateral (
      select x.job_id, x.key from ops._rules_of(array(select j from ops.live_jobs j where j.id = any (o.job_ids))) x
      where x.max_running is not null
      except select u.job_id, u.key from unnest(o.slot_jobs, o.slot_keys) u (job_id, key)) r
    where o.id = any (v_claims) group by o.id
  ) a where c.id = a.id;
  insert into ops.parked_slots (key, job_id)
  select r.key, r.job_id from ops._rules_of(array(
    select j from ops.live_jobs j where j.wait_key is not null and j.state = 'waiting' and j.callback is null
    for update skip locked)) r
  where r.max_running is not null
  on conflict do nothing;
end $$;
comment on function ops._count_slots_anew() is 'Counts jobs at work under rules that came after they began.';
revoke all on function ops._count_slots_anew from public, anon, authenticated, service_role;

-- A changed rule counts at once. With its owner's rights, because operators change rules as the service, which only
-- reads limit keys.
create function ops.limits_changed() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform ops._count_slots_anew();
  insert into ops.openings (keys)
  select array_agg(u.key) from unnest(ops._held_keys(null, null)) u (key) cross join generate_series(1, 10)
  having count(*) > 0;
  update ops.limit_keys k set opens_at = private.now() where k.opens_at is not null and k.closed_until is null;
  return null;
end $$;
comment on function ops.limits_changed() is 'Trigger: jobs that a rule held back are looked at again.';
revoke all on function ops.limits_changed from public, anon, authenticated, service_role;
create trigger limits_changed after insert or update or delete on ops.limits
  for each statement execute function ops.limits_changed();

-- Presets of the providers. Sources: Meta, Instagram Platform, rate limiting (200 messages an hour an account; the
-- day's bound is Backlot's own); fal, concurrency limits (2 for a new account, raised on request, so an operator's
-- row); Shopify, API limits (a shop's leaky bucket: at most 2 jobs a shop at once keep below it).
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('key', 'instagram', null, 200, interval '1 hour', 'Messages an Instagram account may send in an hour.'),
  ('key', 'instagram', null, 1000, interval '1 day', 'Messages an Instagram account may send in a day.'),
  ('provider', 'fal', 40, null, null, 'Requests at fal at the same time; set it to what the account allows.'),
  ('key', 'shopify', 2, null, null, 'Jobs at work on one shop at the same time.');
