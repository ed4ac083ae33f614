-- What becomes of jobs that nobody ends: their worker is lost, or their time is over. Done by the clock, and by a claim
-- that has little else to do.

-- Claims that ran out before this time (microseconds) have been seen to. A sequence, and not the first row of an index,
-- because the ended claims of a held-back horizon would stand before that row.
create sequence ops.claims_seen_to minvalue 0 start 0;
revoke all on sequence ops.claims_seen_to from public, anon, authenticated, service_role;

-- Whether a lease or a deadline has run out since this was asked last. What falls between (a claim that was slow to
-- commit) is found by the clock, which looks at all.
create function ops._is_any_overdue() returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_now timestamptz := private.now();
  v_micros bigint := extract(epoch from v_now) * 1000000;
  v_seen bigint := (select s.last_value from ops.claims_seen_to s);
  v_from timestamptz := case when v_seen < v_micros then to_timestamp(v_seen / 1000000.0 - 2) else '-infinity' end;
begin
  if exists (select from ops.claims c where c.expires_at between v_from and v_now order by c.expires_at limit 1) then
    return true;
  end if;
  if abs(v_micros - v_seen) > 500000 then
    perform setval('ops.claims_seen_to', v_micros);
  end if;
  return coalesce((select j.deadline_at <= v_now from ops.live_jobs j where j.deadline_at is not null
    order by j.deadline_at limit 1), false);
end $$;
comment on function ops._is_any_overdue() is 'Whether a lease or a deadline has run out since this was asked last.';
revoke all on function ops._is_any_overdue from public, anon, authenticated, service_role;

-- Ends jobs past their deadline and takes back what lost workers held, at most so many of each, so that it
-- may run before a claim. Sorted as complete_jobs sorts, so that they take wallets alike. It waits for no
-- job, nor for a parent: whoever holds one may be waiting for a job that is locked here.
create function ops._end_overdue_jobs(most integer) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_lost bigint[];
  v_ids bigint[];
  v_id bigint;
  v_job ops.live_jobs;
  v_claim ops.claims;
  v_keys bigint[];
  v_text text := 'worker_lost: The worker let its lease run out.';
  v_ended integer := 0;
begin
  -- with an order, because the planner may read the whole table for a bare exists
  if (select c.expires_at <= v_now from ops.claims c order by c.expires_at limit 1) is not true
    and (select j.deadline_at <= v_now from ops.live_jobs j where j.deadline_at is not null order by j.deadline_at
      limit 1) is not true then
    return 0;
  end if;
  -- a lost claim is taken back by one at a time, or two would take each other's claims in turn
  v_lost := array(select unnest(l.job_ids) from (
      select c.job_ids from ops.claims c where c.expires_at <= v_now order by c.expires_at limit most
      for update skip locked) l limit most);
  v_ids := array(
      select j.id from ops.live_jobs j where j.deadline_at <= v_now
        and not exists (select from ops.claims c where j.id = any (c.job_ids))
      order by j.deadline_at limit most for update skip locked
    ) || array(select j.id from ops.live_jobs j where j.id = any (v_lost) order by j.id for update skip locked);
  perform private.lock_wallets(array(
    select distinct j.workspace_id from ops.live_jobs j where j.id = any (v_ids) and j.is_heard));
  for v_id in select j.id from ops.live_jobs j where j.id = any (v_ids) order by j.workspace_id, j.parent_id, j.id loop
    -- read here: the end of one job may have ended another
    select * into v_job from ops.live_jobs j where j.id = v_id;
    continue when not found;
    if v_job.parent_id is not null then
      perform from ops.live_jobs p where p.id = v_job.parent_id for update skip locked;
      continue when not found and exists (select from ops.live_jobs p where p.id = v_job.parent_id);
    end if;
    v_claim := null;
    select c.* into v_claim from ops.claims c where v_id = any (c.job_ids) order by c.id desc limit 1;
    if v_claim.id is null then
      continue when v_job.deadline_at > v_now or v_job.deadline_at is null;
      perform ops._fail_attempt_or_put_off(v_job, 'timed_out: The job did not end in time.', null, false);
    elsif v_claim.expires_at > v_now then
      continue;
    elsif v_claim.worker = '' then
      perform ops._leave_claims(array[v_id]);
      perform ops._fail_attempt_or_put_off(v_job, split_part(v_job.error, ' [end refused: ', 1), null, false);
    else
      v_keys := ops._leave_claims(array[v_id]);
      v_job := ops._attempted(v_job, v_claim);
      perform ops._note_attempt(v_job, ops._fail_attempt_or_put_off(v_job, v_text, interval '0', true), v_text);
      perform ops._release_slots(v_keys);
    end if;
    v_ended := v_ended + 1;
  end loop;
  -- what is left of claims whose jobs have all ended otherwise
  delete from ops.claims d where d.id = any (array(
    select c.id from ops.claims c where c.expires_at <= v_now
      and not exists (select from ops.live_jobs j where j.id = any (c.job_ids)) for update skip locked));
  return v_ended;
end $$;
comment on function ops._end_overdue_jobs(integer) is
  'Ends jobs past their deadline and recovers lost leases, at most so many of each; returns how many.';
revoke all on function ops._end_overdue_jobs from public, anon, authenticated, service_role;
