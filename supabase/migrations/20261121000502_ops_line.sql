-- The order in which jobs are claimed: start-time fair queueing. Each workspace is a flow; a job's tag is where its
-- flow stood when it came, and each job moves its flow on by its cost over the flow's weight. Claims take the lowest
-- tags first, so a workspace that brings 100,000 jobs fills the line behind it and not in front of others, and a
-- flow that has been idle starts at the present and is not owed the past. Tags are given under the claim's lock, in
-- the order in which transactions committed; whoever enqueues locks nothing.
-- Source: P. Goyal, H. Vin, H. Cheng, Start-time Fair Queuing, SIGCOMM 1996.

-- The lock under which the line changes: claims are made one at a time.
create function ops._claim_lock() returns bigint
language plpgsql immutable
set search_path = ''
as $$ begin return 7203850871; end $$;
comment on function ops._claim_lock() is 'The advisory lock of claims.';
revoke all on function ops._claim_lock from public, anon, authenticated, service_role;

create function ops._flow_of(workspace_id uuid) returns uuid
language plpgsql immutable
set search_path = ''
as $$ begin return coalesce(workspace_id, '00000000-0000-0000-0000-000000000000'); end $$;
comment on function ops._flow_of(uuid) is 'The flow of a workspace''s jobs; the zero workspace for work of no tenant.';
revoke all on function ops._flow_of from public, anon, authenticated, service_role;

-- Rows are only added, and the newest of a flow counts: it is the first of its index, whatever an old transaction
-- keeps alive behind it.
create table ops.flows (
  flow uuid not null,
  lane smallint not null,
  next_tag bigint not null,
  constraint flows_pkey primary key (flow, lane, next_tag)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.flows is
  'Where each workspace stands in each lane; the zero workspace is the work that belongs to no tenant.';
comment on column ops.flows.next_tag is 'Tag of the flow''s next job, unless the present is later; the highest counts.';
alter table ops.flows enable row level security;
revoke all on table ops.flows from public, anon, authenticated, service_role;
grant select on table ops.flows to service_role;

create table ops.weights (
  flow uuid primary key,
  weight real not null,
  constraint weights_weight_in_range check (weight between 0.01::real and 1000)
);
comment on table ops.weights is 'Workspaces whose share of the capacity beside others is not the usual one.';
comment on column ops.weights.weight is 'A job costs its flow 1,000 / weight; the usual is 1.';
alter table ops.weights enable row level security;
revoke all on table ops.weights from public, anon, authenticated, service_role;
grant select on table ops.weights to service_role;

-- One row a call, however many jobs it brings. No index: every claim takes all that is there.
create table ops.arrivals (
  n bigint generated always as identity,
  flow uuid not null,
  lane smallint not null,
  queue text not null,
  resumed boolean not null,
  job_ids bigint[] not null,
  tickets integer[] not null
) with (autovacuum_vacuum_cost_delay = 0);
comment on table ops.arrivals is 'Jobs that have become ready and have no place in the line yet.';
comment on column ops.arrivals.resumed is
  'Jobs that go on (a retry, an answer, an end of waiting): their place was paid for.';
alter table ops.arrivals enable row level security;
revoke all on table ops.arrivals from public, anon, authenticated, service_role;
grant select on table ops.arrivals to service_role;

create table ops.ready (
  lane smallint not null,
  tag bigint not null,
  job_id bigint not null,
  ticket integer not null,
  queue text not null,
  held_key bigint,
  held_tag bigint
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.ready is 'The line: jobs that may be claimed, in the order of lane and tag.';
comment on column ops.ready.lane is
  '0 urgent (priority above 0), 1 normal, 2 background (below 0): a lane goes before the next.';
comment on column ops.ready.ticket is 'Counts only while it is the job''s newest.';
comment on column ops.ready.held_tag is
  'Where it stood in the line of held_key, the limit key that held it back: there it goes if it may not start yet.';
create index ready_line on ops.ready (lane, tag, job_id);
-- for claims of queues by name; what is in no queue of its own, which is most, does not pay for it
create index ready_queues on ops.ready (queue, lane, tag, job_id) where queue <> 'default';
alter table ops.ready enable row level security;
revoke all on table ops.ready from public, anon, authenticated, service_role;
grant select on table ops.ready to service_role;

-- A lane's present (the highest tag claimed) and where its line begins. Sequences, because a row that every claim
-- updates would leave a chain of dead versions that an old transaction keeps alive, and the front of the line is a
-- heap of dead rows then too: a claim starts behind them. Both only ever lag, never run ahead.
create sequence ops.lane_0_time minvalue 0 start 0;
create sequence ops.lane_1_time minvalue 0 start 0;
create sequence ops.lane_2_time minvalue 0 start 0;
create sequence ops.lane_0_front minvalue 0 start 0;
create sequence ops.lane_1_front minvalue 0 start 0;
create sequence ops.lane_2_front minvalue 0 start 0;
revoke all on sequence ops.lane_0_time, ops.lane_1_time, ops.lane_2_time, ops.lane_0_front, ops.lane_1_front,
  ops.lane_2_front from public, anon, authenticated, service_role;

-- Where the claims begin that have not ended, for the same reason.
create sequence ops.claims_front minvalue 0 start 0;
revoke all on sequence ops.claims_front from public, anon, authenticated, service_role;

create function ops._lane(priority integer) returns smallint
language plpgsql immutable
set search_path = ''
as $$ begin return 1 - sign(priority); end $$;
comment on function ops._lane(integer) is 'The lane of a priority: 0 urgent, 1 normal, 2 background.';
revoke all on function ops._lane from public, anon, authenticated, service_role;

create function ops._lane_times() returns bigint[]
language plpgsql volatile
set search_path = ''
as $$
begin
  return array[(select s.last_value from ops.lane_0_time s), (select s.last_value from ops.lane_1_time s),
    (select s.last_value from ops.lane_2_time s)];
end $$;
comment on function ops._lane_times() is 'The present of each lane.';
revoke all on function ops._lane_times from public, anon, authenticated, service_role;

-- A table that is emptied over and over and read whole grows by its dead rows as long as an old transaction holds
-- them. Then it is made anew, if nobody is writing to it at this moment and no row is left.
create function ops._shrink(relation regclass) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_left boolean;
begin
  if pg_catalog.pg_relation_size(relation) <= 256 * 1024 then
    return;
  end if;
  begin
    execute format('lock table %s in access exclusive mode nowait', relation);
  exception when lock_not_available then
    return;
  end;
  execute format('select exists (select from %s)', relation) into v_left;
  if not v_left then
    execute format('truncate %s', relation);
  end if;
end $$;
comment on function ops._shrink(regclass) is
  'Makes an emptied table anew once it is large and nobody is writing to it.';
revoke all on function ops._shrink from public, anon, authenticated, service_role;

-- By how much a job of a flow moves it on.
create function ops._cost(flow uuid) returns bigint
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return coalesce((select 1000 / w.weight from ops.weights w where w.flow = _cost.flow), 1000)::bigint;
end $$;
comment on function ops._cost(uuid) is 'What a job of a workspace costs its flow: 1,000 over its weight.';
revoke all on function ops._cost from public, anon, authenticated, service_role;

-- Gives the jobs that have arrived their tags. Called under the claim's lock.
create function ops._absorb(times bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  if not exists (select from ops.arrivals) then
    return;
  end if;
  with gone as (
    delete from ops.arrivals a returning a.*
  ), jobs as materialized (
    select g.flow, g.lane, g.queue, g.resumed, u.job_id, u.ticket,
      row_number() over (partition by g.flow, g.lane, g.resumed order by g.n, u.place) - 1 as nth
    from gone g cross join lateral unnest(g.job_ids, g.tickets) with ordinality as u (job_id, ticket, place)
  ), flows as materialized (
    select j.flow, j.lane, j.resumed, j.n, ops._cost(j.flow) as cost,
      -- what goes on was paid for and stands at the front, but a workspace that brings much of it at once does not
      -- stand before all others
      case when j.resumed then times[j.lane + 1] else greatest(times[j.lane + 1],
        (select f.next_tag from ops.flows f where f.flow = j.flow and f.lane = j.lane
          order by f.next_tag desc limit 1)) end as tag
    from (select i.flow, i.lane, i.resumed, count(*) as n from jobs i group by i.flow, i.lane, i.resumed) j
  ), moved as (
    insert into ops.flows (flow, lane, next_tag)
    select f.flow, f.lane, f.tag + f.n * f.cost from flows f where not f.resumed
  )
  insert into ops.ready (lane, tag, job_id, ticket, queue)
  select j.lane, f.tag + j.nth * f.cost, j.job_id, j.ticket, j.queue
  from jobs j join flows f on f.flow = j.flow and f.lane = j.lane and f.resumed = j.resumed;
  perform ops._shrink('ops.arrivals');
end $$;
comment on function ops._absorb(bigint[]) is 'Moves jobs that have arrived into the line, each at its flow''s tag.';
revoke all on function ops._absorb from public, anon, authenticated, service_role;

-- Sets a workspace's share of the capacity beside others: 2 is twice that of 1. Errors: invalid_argument.
create function ops.set_workspace_weight(workspace_id uuid, weight real) returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  if weight is null or weight not between 0.01::real and 1000 then
    perform private.fail('invalid_argument', 'weight must be between 0.01 and 1000.', '{"argument": "weight"}');
  end if;
  insert into ops.weights as w (flow, weight)
  values (set_workspace_weight.workspace_id, set_workspace_weight.weight)
  on conflict on constraint weights_pkey do update set weight = excluded.weight where w.weight <> excluded.weight;
end $$;
comment on function ops.set_workspace_weight(uuid, real) is
  'Sets a workspace''s share of the queue''s capacity beside other workspaces; the usual is 1.';
revoke all on function ops.set_workspace_weight from public, anon, authenticated, service_role;
grant execute on function ops.set_workspace_weight to service_role;
insert into ops.weights (flow, weight) values ('00000000-0000-0000-0000-000000000000', 10);

-- Flows that the present has passed are where a new one would begin, and of the others the newest row counts.
create function ops.prune_flows() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_times bigint[] := ops._lane_times();
  v_pruned integer;
begin
  delete from ops.flows f
  where f.next_tag <= v_times[f.lane + 1] or exists (select from ops.flows n
    where n.flow = f.flow and n.lane = f.lane and n.next_tag > f.next_tag);
  get diagnostics v_pruned = row_count;
  delete from ops.held_flows f where not exists (select from ops.held_back b where b.key = f.key);
  return v_pruned;
end $$;
comment on function ops.prune_flows() is 'Sweep: deletes what no longer counts of flows; returns how many rows.';
revoke all on function ops.prune_flows from public, anon, authenticated, service_role;
grant execute on function ops.prune_flows to service_role;

-- Puts jobs at the front of their lanes that go on: their rows are locked by the caller. A paused one is paused
-- instead. Returns the state they have then.
create function ops._make_ready(ids bigint[]) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_state text;
  v_paused bigint[];
begin
  with moved as (
    update ops.live_jobs j
    set state = case when j.paused then 'paused' else 'queued' end, ticket = j.ticket + 1, run_at = private.now()
    where j.id = any (ids)
    returning j.id, j.state, j.ticket, j.workspace_id, j.priority, j.queue
  ), arrived as (
    insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
    select ops._flow_of(m.workspace_id), ops._lane(m.priority), m.queue, true,
      array_agg(m.id order by m.id), array_agg(m.ticket order by m.id)
    from moved m where m.state = 'queued' group by 1, 2, 3
  )
  select max(m.state), array_agg(m.id) filter (where m.state = 'paused') into v_state, v_paused from moved m;
  -- no provider works for it any more, and it may stay paused for long
  perform ops._leave_parked_slots(u.id) from unnest(v_paused) u (id);
  return v_state;
end $$;
comment on function ops._make_ready(bigint[]) is
  'Makes jobs ready that go on; returns queued, or paused where they are paused.';
revoke all on function ops._make_ready from public, anon, authenticated, service_role;
