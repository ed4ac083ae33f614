-- How attempts end: completed, parked or failed by their worker. The functions are for service_role only.

-- What one attempt came to, for one job that has left its claim. Outcomes: completed (output), waiting (wait_key,
-- poll_in seconds, checkpoint), failed (error, retry_in seconds, retry false to give up at once), busy (retry_in
-- seconds: the provider asked to wait; not counted as a failure).
create function ops._settle_attempt(job ops.live_jobs, result jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_seconds double precision := (result ->> 'retry_in')::double precision;
  v_job ops.live_jobs := job;
begin
  case coalesce(result ->> 'outcome', 'completed')
    when 'completed' then
      perform ops._end_job(job, 'completed', result -> 'output', null);
      return 'completed';
    when 'waiting' then
      return ops._park_job(job, result ->> 'wait_key',
        private.now() + make_interval(secs => (result ->> 'poll_in')::double precision), result -> 'checkpoint');
    when 'busy' then
      v_seconds := least(greatest(coalesce(v_seconds, 30), 0), 86400);
      v_job.error := coalesce(result ->> 'error', job.error);
      perform ops._try_again(v_job, private.now() + make_interval(secs => v_seconds));
      if job.provider is not null or job.limit_key is not null then
        perform ops.close_limit_key(coalesce('key:' || job.limit_key, 'provider:' || job.provider), v_seconds,
          result ->> 'error');
      end if;
      return 'busy';
    when 'failed' then
      return ops._fail_attempt(job, coalesce(result ->> 'error', 'failed'), make_interval(secs => v_seconds),
        coalesce((result ->> 'retry')::boolean, true));
    else
      perform private.fail('invalid_argument', 'outcome must be completed, waiting, busy or failed.',
        '{"argument": "results"}');
  end case;
  return null;
end $$;
comment on function ops._settle_attempt(ops.live_jobs, jsonb) is 'Applies the outcome of one attempt to a job.';
revoke all on function ops._settle_attempt from public, anon, authenticated, service_role;

create type ops.plain_batch as (claim_id bigint, ids bigint[], attempts integer[], outputs jsonb[]);
comment on type ops.plain_batch is 'Results that all say completed, of one claim; the arrays are parallel, by id.';

-- The results of a batch, where all say completed and name their attempt and one claim; null for any other, and for
-- what cannot be read. By itself, because catching an error makes a subtransaction, and one that writes costs much.
create function ops._read_plain_batch(results jsonb) returns ops.plain_batch
language plpgsql immutable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_batch ops.plain_batch;
begin
  select min(g.claim), array_agg(g.id order by g.id), array_agg(g.attempt order by g.id),
    array_agg(g.output order by g.id)
  into v_batch
  from jsonb_to_recordset(results) as g (id bigint, attempt integer, claim bigint, outcome text, output jsonb)
  having bool_and(g.id is not null and g.attempt is not null and coalesce(g.outcome, 'completed') = 'completed')
    and min(g.claim) = max(g.claim) and count(g.claim) = count(*);
  return v_batch;
exception when invalid_text_representation or numeric_value_out_of_range or invalid_parameter_value then
  return null;
end $$;
comment on function ops._read_plain_batch(jsonb) is
  'The results of a batch that is completed as a whole; null for any other.';
revoke all on function ops._read_plain_batch from public, anon, authenticated, service_role;

-- Completes a batch of jobs whose end nobody hears of (no function of the kind, no parent, no callback to close), all
-- of one claim, in one statement for all. Nothing can refuse it. Only results that name their claim and attempt come
-- this way, because these fence them. Jobs are taken by id and before their claim, as everywhere. Null: this is no such
-- batch, and nothing was changed; else the ids of those that were completed.
create function ops._complete_plain_jobs(worker text, results jsonb) returns bigint[]
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := private.now();
  v_given ops.plain_batch := ops._read_plain_batch(results);
  v_claim ops.claims;
  v_ended integer;
  v_ids bigint[];
begin
  if v_given.ids is null then
    return null;
  end if;
  -- by its id alone: an index by worker has all the claims that the worker ever made, if an old transaction keeps them
  select c.* into v_claim from ops.claims c where c.id = v_given.claim_id;
  if (v_claim.worker = worker and v_claim.is_plain and v_claim.expires_at > v_now
    and v_given.ids <@ v_claim.job_ids) is not true then
    return null;
  end if;
  with gone as (
    delete from ops.live_jobs j
    using unnest(v_given.ids, v_given.attempts, v_given.outputs) as g (id, attempt, output)
    where j.id = g.id and j.attempt = g.attempt - 1 and not j.is_heard and j.wait_key is null
    returning j.*, g.output as given_output
  )
  insert into ops.finished_jobs (id, kind, queue, workspace_id, state, priority, run_at, payload, provider,
    limit_key, ticket, paused, is_heard, attempt, failed_attempts, max_attempts, progress, stage, checkpoint, output,
    error, pending_children, failed_children, max_failed_children, callback, deadline_at, correlation_id, created_at,
    started_at, claimed_at, worker, finished_at)
  select e.id, e.kind, e.queue, e.workspace_id, 'completed', e.priority, e.run_at, e.payload, e.provider,
    e.limit_key, e.ticket, e.paused, false, e.attempt + 1, e.failed_attempts, e.max_attempts, 100, e.stage,
    e.checkpoint, e.given_output, e.error, e.pending_children, e.failed_children, e.max_failed_children, e.callback,
    e.deadline_at, e.correlation_id, e.created_at, coalesce(e.started_at, v_claim.started_at), v_claim.started_at,
    v_claim.worker, v_now
  from gone e;
  get diagnostics v_ended = row_count;
  if v_ended = cardinality(v_claim.job_ids) and v_ended = cardinality(v_given.ids) then
    -- all that it held, as nearly always
    delete from ops.claims c where c.id = v_claim.id returning c.slot_keys into v_claim.slot_keys;
    if v_claim.slot_keys <> '{}' then
      perform ops._release_slots(v_claim.slot_keys);
    end if;
    return v_given.ids;
  end if;
  v_ids := array(select f.id from ops.finished_jobs f
    where f.id = any (v_given.ids) and f.state = 'completed' and f.worker = v_claim.worker
      and f.claimed_at = v_claim.started_at and f.finished_at = v_now order by f.id);
  perform ops._release_slots(ops._leave_claims(v_ids, v_claim.id));
  return v_ids;
end $$;
comment on function ops._complete_plain_jobs(text, jsonb) is
  'Completes a batch of jobs whose end needs nothing else; returns their ids, or null for any other batch.';
revoke all on function ops._complete_plain_jobs from public, anon, authenticated, service_role;

-- Tells the circuit breakers of providers how calls ended. A provider that is well is not written to.
create function ops._record_provider_calls(good text[], bad jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_name text;
begin
  for v_name in
    select c.name from ops.circuit_breakers c
    where (c.failures > 0 or c.state <> 'closed') and c.name = any (good) order by c.name
  loop
    perform ops.record_circuit_call(v_name, true);
  end loop;
  perform ops.record_circuit_call(b.name, false, b.error)
  from jsonb_to_recordset(bad) as b (name text, error text) order by b.name;
end $$;
comment on function ops._record_provider_calls(text[], jsonb) is
  'Tells circuit breakers of calls that ended well or badly.';
revoke all on function ops._record_provider_calls from public, anon, authenticated, service_role;

-- Ends or parks jobs of a worker: results is an array of {id, attempt?, claim?, outcome?, ...} (see _settle_attempt;
-- with provider_failed: true a failure also counts against the circuit of the job's provider). Answers one row
-- a result: completed, waiting, queued, paused, busy, retrying, dead, or lost when the lease was lost and nothing
-- changed. One result's failure does not touch the others. All take their locks in one order: jobs with their
-- parents by id, then claims, then wallets, then what else the kinds' functions touch, by workspace.
create function ops.complete_jobs(worker text, results jsonb) returns table (job_id bigint, result text)
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_ids bigint[];
  v_parents bigint[];
  v_plain bigint[];
  v_result jsonb;
  v_job ops.live_jobs;
  v_claim ops.claims;
  v_keys bigint[];
  v_error text;
  v_good text[] := '{}';
  v_bad jsonb := '[]';
begin
  if results is null or jsonb_typeof(results) <> 'array' then
    perform private.fail('invalid_argument', 'results must be an array of objects.', '{"argument": "results"}');
  end if;
  v_plain := ops._complete_plain_jobs(worker, results);
  if cardinality(v_plain) > 0 then
    return query select unnest(v_plain), 'completed';
    if exists (select from ops.circuit_breakers c where c.failures > 0 or c.state <> 'closed') then
      perform ops._record_provider_calls(array(select distinct 'provider:' || f.provider from ops.finished_jobs f
        where f.id = any (v_plain) and f.provider is not null), '[]');
    end if;
    if cardinality(v_plain) = jsonb_array_length(results) then
      return;
    end if;
  end if;
  v_plain := coalesce(v_plain, '{}');
  if exists (select from jsonb_array_elements(results) r where (r ->> 'id') ~ '^[0-9]{1,18}$' is not true
    or (r ->> 'attempt') !~ '^[0-9]{1,9}$' or (r ->> 'claim') !~ '^[0-9]{1,18}$') then
    perform private.fail('invalid_argument',
      'results must be an array of objects with an integer id (and attempt and claim).', '{"argument": "results"}');
  end if;
  v_ids := array(select (r ->> 'id')::bigint from jsonb_array_elements(results) r
    where (r ->> 'id')::bigint <> all (v_plain));
  -- all locks on jobs first, so that nobody waits for a job while holding a wallet; parents have lower ids
  v_parents := array(
    select distinct c.parent_id from ops.live_jobs c where c.id = any (v_ids) and c.parent_id is not null);
  if v_parents <> '{}' then
    perform from ops.finished_jobs p where p.id = any (v_parents) order by p.id for key share;
  end if;
  perform from ops.live_jobs j where j.id = any (v_ids || v_parents) order by j.id for update;
  perform from ops.claims c
  where c.id in (select (r ->> 'claim')::bigint from jsonb_array_elements(results) r)
    or (c.worker = complete_jobs.worker and c.job_ids && v_ids)
  order by c.id for update;
  perform private.lock_wallets(array(
    select distinct j.workspace_id from ops.live_jobs j where j.id = any (v_ids) and j.is_heard));
  for v_result in
    select r.result
    from (select e.result, (e.result ->> 'id')::bigint as id,
        row_number() over (partition by (e.result ->> 'id')::bigint order by e.place) as nth
      from jsonb_array_elements(results) with ordinality as e (result, place)) r
    left join ops.live_jobs j on j.id = r.id
    where r.id <> all (v_plain) or r.nth > 1
    order by j.workspace_id, j.parent_id, j.id
  loop
    job_id := (v_result ->> 'id')::bigint;
    select j.* into v_job from ops.live_jobs j where j.id = complete_jobs.job_id for update;
    v_claim := ops._holding_claim(worker, v_job, (v_result ->> 'attempt')::integer, (v_result ->> 'claim')::bigint);
    if v_claim.id is null then
      result := 'lost';
    else
      v_keys := ops._leave_claims(array[v_job.id], v_claim.id);
      v_job := ops._attempted(v_job, v_claim);
      begin
        v_error := case when v_result ->> 'outcome' in ('failed', 'busy') then coalesce(v_result ->> 'error', 'failed')
          end;
        result := ops._settle_attempt(v_job, v_result);
      exception
        when deadlock_detected or serialization_failure then raise;
        when others then
          v_error := sqlerrm;
          result := ops._fail_attempt_or_put_off(v_job, v_error, null, true);
      end;
      -- while a provider works on a job that waits for its answer, the job keeps its slots
      if result = 'waiting' and v_result ->> 'wait_key' is not null then
        insert into ops.parked_slots (key, job_id) select distinct k.key, v_job.id from unnest(v_keys) k (key);
      else
        perform ops._release_slots(v_keys);
      end if;
      if result <> 'completed' then
        perform ops._note_attempt(v_job, result, v_error);
      end if;
      if v_job.provider is not null and (v_result ->> 'provider_failed')::boolean then
        v_bad := v_bad || jsonb_build_object('name', 'provider:' || v_job.provider, 'error', v_error);
      elsif v_job.provider is not null and result in ('completed', 'waiting', 'queued') then
        v_good := v_good || ('provider:' || v_job.provider);
      end if;
    end if;
    return next;
  end loop;
  perform ops._record_provider_calls(v_good, v_bad);
end $$;
comment on function ops.complete_jobs is
  'Ends or parks held jobs, each with its domain row, money and parent in one transaction; tells what became of each.';
revoke all on function ops.complete_jobs from public, anon, authenticated, service_role;
grant execute on function ops.complete_jobs to service_role;

-- One attempt failed. Answers retrying, dead, or lost. retry_in null: exponential backoff.
create function ops.fail_job(worker text, id bigint, error text, retry_in interval default null,
  attempt integer default null, claim_id bigint default null) returns table (job_id bigint, result text)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.live_jobs := ops._lock_with_parent(id);
  v_claim ops.claims := ops._holding_claim(worker, v_job, attempt, claim_id);
  v_keys bigint[];
begin
  job_id := id;
  result := 'lost';
  if v_claim.id is not null then
    v_keys := ops._leave_claims(array[v_job.id], v_claim.id);
    v_job := ops._attempted(v_job, v_claim);
    result := ops._fail_attempt_or_put_off(v_job, coalesce(error, 'failed'), retry_in, true);
    perform ops._note_attempt(v_job, result, coalesce(error, 'failed'));
    perform ops._release_slots(v_keys);
  end if;
  return next;
end $$;
comment on function ops.fail_job is
  'Counts a failed attempt of a held job: retried with backoff, or dead after max_attempts.';
revoke all on function ops.fail_job from public, anon, authenticated, service_role;
grant execute on function ops.fail_job to service_role;
