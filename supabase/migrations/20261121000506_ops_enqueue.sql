-- How work comes into the queue. All functions are for service_role only; ops is not exposed, so clients reach jobs
-- through the domain functions that enqueue them.

-- Adds many jobs of one kind in one statement: payloads is an array of objects. keys, where given, is an array as
-- long (null: without a key); a job whose key is known is not added again. Returns the ids in the order of payloads,
-- and whether this call created each. Children of a paused parent are paused, too. Errors: unknown_job_kind,
-- unknown_workspace, unknown_job, job_ended, key_reused, invalid_argument.
create function ops.enqueue_jobs(
  kind text, payloads jsonb[], workspace_id uuid default null, queue text default 'default',
  priority integer default 0, run_at timestamptz default null, max_attempts integer default 5, keys text[] default null,
  parent_id bigint default null, provider text default null, limit_key text default null,
  max_failed_children integer default null
) returns table (job_id bigint, created boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_kind ops.job_kinds := (select k from ops.job_kinds k where k.kind = enqueue_jobs.kind);
  v_parent ops.live_jobs;
  v_workspace uuid := workspace_id;
  v_count integer := coalesce(cardinality(payloads), 0);
  v_now timestamptz := private.now();
  v_run_at timestamptz := coalesce(run_at, v_now);
  v_later boolean := coalesce(run_at, v_now) > v_now;
  v_paused boolean;
  v_ids bigint[];
  v_created boolean[];
  v_bad text;
  v_added integer;
begin
  if v_kind.kind is null then
    perform private.fail('unknown_job_kind', format('There is no job kind "%s".', kind),
      jsonb_build_object('kind', kind));
  end if;
  v_bad := case
    when v_count not between 1 and 10000 then 'payloads must have 1 to 10,000 elements'
    when exists (select from unnest(payloads) p where jsonb_typeof(p) is distinct from 'object')
      then case v_count when 1 then 'payload must be a JSON object' else 'payloads must be JSON objects' end
    when max_attempts is null or max_attempts not between 1 and 100 then 'max_attempts must be between 1 and 100'
    when priority is null or priority not between -32768 and 32767
      then 'priority must be between -32768 and 32767'
    when keys is not null and cardinality(keys) <> v_count then 'keys must have as many elements as payloads'
    when exists (select from unnest(keys) k where length(k) not between 1 and 255)
      then 'key must have 1 to 255 characters'
    when length(limit_key) > 255 or strpos(limit_key, ':') < 2 then 'limit_key must be <prefix>:<name>'
    when max_failed_children < 0 then 'max_failed_children must not be negative' end;
  if v_bad is not null then
    perform private.fail('invalid_argument', v_bad || '.',
      jsonb_build_object('argument', split_part(v_bad, ' ', 1)));
  end if;
  if workspace_id is not null and not exists (select from identity.workspaces w where w.id = workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  if parent_id is not null then
    select * into v_parent from ops.live_jobs p where p.id = parent_id for update;
    v_workspace := coalesce(workspace_id, v_parent.workspace_id,
      (select p.workspace_id from ops.finished_jobs p where p.id = parent_id));
  end if;

  v_ids := array(select nextval('ops.job_ids') from generate_series(1, v_count));
  v_created := array_fill(true, array[v_count]);
  if keys is not null then
    select k.ids, k.created into v_ids, v_created from ops._take_keys(ops._flow_of(v_workspace), keys, v_ids,
      jsonb_build_object('kind', kind, 'queue', coalesce(queue, 'default'),
      'priority', priority, 'run_at', extract(epoch from run_at), 'max_attempts', max_attempts,
      'parent_id', parent_id), payloads) k;
    if not (true = any (v_created)) then
      return query select u.id, false from unnest(v_ids) u (id);
      return;
    end if;
  end if;
  -- only now: a key that is known is answered though the parent has ended since
  if parent_id is not null and v_parent.id is null then
    perform private.fail(case
      when exists (select from ops.finished_jobs p where p.id = parent_id) then 'job_ended' else 'unknown_job' end,
      'The parent job cannot take children.', jsonb_build_object('parent_id', parent_id));
  end if;
  v_paused := coalesce(v_parent.paused, false);

  insert into ops.live_jobs (id, kind, payload, workspace_id, queue, priority, run_at, state, max_attempts, parent_id,
    provider, limit_key, max_failed_children, deadline_at, is_heard, correlation_id, paused)
  select u.id, kind, u.payload, v_workspace, coalesce(queue, 'default'), priority, v_run_at,
    case when v_later then 'scheduled' when v_paused then 'paused' else 'queued' end, max_attempts, parent_id,
    coalesce(provider, v_kind.provider), limit_key, max_failed_children, greatest(v_run_at, v_now) + v_kind.timeout,
    parent_id is not null or v_kind.on_event is not null,
    coalesce(v_parent.correlation_id, nullif(current_setting('backlot.correlation_id', true), '')::uuid,
      gen_random_uuid()), v_paused
  from unnest(v_ids, v_created, payloads) as u (id, created, payload)
  where u.created;
  get diagnostics v_added = row_count;
  if parent_id is not null then
    update ops.live_jobs p set pending_children = p.pending_children + v_added where p.id = parent_id;
  end if;
  if not v_later and not v_paused then
    insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
    select ops._flow_of(v_workspace), ops._lane(priority),
      coalesce(queue, 'default'), false, array_agg(u.id order by u.place), array_fill(0, array[v_added])
    from unnest(v_ids, v_created) with ordinality as u (id, created, place) where u.created;
    perform ops._wake_worker();
  end if;
  return query select u.id, u.created from unnest(v_ids, v_created) u (id, created);
end $$;
comment on function ops.enqueue_jobs is
  'Adds up to 10,000 jobs of a kind at once, each once for its key for ever; returns ids and which are new.';
revoke all on function ops.enqueue_jobs from public, anon, authenticated, service_role;
grant execute on function ops.enqueue_jobs to service_role;

-- Takes idempotency keys for jobs: one that is known keeps its job. The same key twice in a call is one job.
-- Errors: key_reused.
create function ops._take_keys(workspace_id uuid, keys text[], job_ids bigint[], content jsonb, payloads jsonb[],
  out ids bigint[], out created boolean[])
language plpgsql
set search_path = ''
as $$
declare
  v_hashes bytea[] := array(select case when u.key is not null
      then private.content_hash(content || jsonb_build_object('payload', u.payload)) end
    from unnest(keys, payloads) with ordinality as u (key, payload, place) order by u.place);
  v_reused record;
begin
  insert into ops.job_keys (workspace_id, key, job_id, content_hash)
  select _take_keys.workspace_id, u.key, u.id, u.hash from unnest(keys, job_ids, v_hashes) u (key, id, hash)
  where u.key is not null order by u.key, u.id
  on conflict on constraint job_keys_pkey do nothing;
  select k.key, k.job_id into v_reused from unnest(keys, v_hashes) u (key, hash)
  join ops.job_keys k on k.workspace_id = _take_keys.workspace_id and k.key = u.key
  where k.content_hash <> u.hash limit 1;
  if found then
    perform private.fail('key_reused', 'This key has been used for a different job.',
      jsonb_build_object('key', v_reused.key, 'job_id', v_reused.job_id));
  end if;
  select array_agg(coalesce(k.job_id, u.id) order by u.place),
    array_agg(coalesce(k.job_id = u.id, true) order by u.place)
  into ids, created
  from unnest(keys, job_ids) with ordinality as u (key, id, place)
  left join ops.job_keys k on k.workspace_id = _take_keys.workspace_id and k.key = u.key;
end $$;
comment on function ops._take_keys is 'Takes the idempotency keys of new jobs; says whose they are and which are new.';
revoke all on function ops._take_keys from public, anon, authenticated, service_role;

-- Adds a job, at most once for a key. kind must be registered. Children count on their parent.
-- Errors: as of enqueue_jobs.
create function ops.enqueue_job(
  kind text, payload jsonb, workspace_id uuid default null, queue text default 'default', priority integer default 0,
  run_at timestamptz default null, max_attempts integer default 5, key text default null,
  parent_id bigint default null, provider text default null, limit_key text default null,
  max_failed_children integer default null
) returns table (job_id bigint, created boolean)
language sql security definer
set search_path = ''
as $$
  select j.job_id, j.created from ops.enqueue_jobs(kind, array[payload], workspace_id, queue, priority, run_at,
    max_attempts, case when key is not null then array[key] end, parent_id, provider, limit_key,
    max_failed_children) j
$$;
comment on function ops.enqueue_job is
  'Adds a job, once for a key for ever; returns its id and whether this call created it.';
revoke all on function ops.enqueue_job from public, anon, authenticated, service_role;
grant execute on function ops.enqueue_job to service_role;
