-- Usage summed up by quarter of an hour, hour and day. A charge never touches a sum: the transaction that settles
-- it appends what it changed, and a sweep moves that into the sums. The sweep takes rows away as it adds them, in
-- one statement, so each is added once, and one whose transaction ends late is simply taken later: no watermark
-- can pass it by. A usage event counts once it is captured, at the time at which the work was done (event_at).

create table billing.usage_changes (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  starts_at timestamptz not null,
  meter_id uuid not null,
  user_id uuid,
  source text,
  charges integer not null,
  quantity numeric not null,
  refunded_quantity numeric not null,
  captured_micro bigint not null,
  refunded_micro bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
comment on table billing.usage_changes is
  'What settled charges changed in the sums of usage, until the sweep has added it.';
alter table billing.usage_changes enable row level security;
revoke all on table billing.usage_changes from public, anon, authenticated, service_role;
grant select on table billing.usage_changes to service_role;

-- user_id has no foreign key: when a person leaves, their charges lose the user_id, which is a change like any other.
create table billing.usage_rollups (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  grain text not null,
  starts_at timestamptz not null,
  meter_id uuid not null,
  user_id uuid,
  source text,
  charges bigint not null,
  quantity numeric not null,
  refunded_quantity numeric not null,
  captured_micro bigint not null,
  refunded_micro bigint not null,
  constraint usage_rollups_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint usage_rollups_meter_id_fkey foreign key (meter_id) references billing.meters (id),
  constraint usage_rollups_bucket_key
    unique nulls not distinct (workspace_id, grain, starts_at, meter_id, user_id, source),
  constraint usage_rollups_grain_known check (grain in ('quarter', 'hour', 'day'))
) with (fillfactor = 70);
comment on table billing.usage_rollups is
  'Captured usage by quarter of an hour, hour and day (UTC), meter, member and source; amounts are micro-units.';
comment on column billing.usage_rollups.charges is 'What corrects a charge counts in all the rest, and not here.';
comment on column billing.usage_rollups.quantity is
  'Units captured; those refunded are counted in refunded_quantity too.';
comment on column billing.usage_rollups.source is 'The source_platform of the charges; null: none was told.';
create index usage_rollups_meter_id on billing.usage_rollups (meter_id, workspace_id);
create index usage_rollups_empty on billing.usage_rollups (id) where charges = 0;
alter table billing.usage_rollups enable row level security;
create policy "Members may read their workspace's sums of usage" on billing.usage_rollups for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.usage_rollups from public, anon, authenticated, service_role;
grant select on table billing.usage_rollups to authenticated, service_role;

create type billing.usage_facts as (
  workspace_id uuid, starts_at timestamptz, meter_id uuid, user_id uuid, source text, charges integer,
  quantity numeric, refunded_quantity numeric, captured_micro bigint, refunded_micro bigint
);

-- What one usage event adds to the sums. A part of the price that was refunded is the same part of the quantity.
create function billing._usage_facts(event billing.usage_events) returns billing.usage_facts
language plpgsql immutable
set search_path = ''
as $$
declare
  v_facts billing.usage_facts;
  v_settled boolean := event.status in ('captured', 'refunded');
begin
  v_facts.workspace_id := event.workspace_id;
  v_facts.starts_at := date_bin(interval '15 minutes', event.event_at, timestamptz '2000-01-01 00:00:00+00');
  v_facts.meter_id := event.meter_id;
  v_facts.user_id := event.user_id;
  v_facts.source := event.source_platform;
  v_facts.charges := (v_settled and event.corrects_id is null)::integer;
  v_facts.captured_micro := event.captured_micro;
  v_facts.refunded_micro := event.refunded_micro;
  v_facts.quantity := case when v_settled then coalesce(event.captured_quantity, event.quantity) else 0 end;
  v_facts.refunded_quantity := case when event.status = 'refunded' then v_facts.quantity
    when event.refunded_micro = 0 then 0
    else round(v_facts.quantity * event.refunded_micro / event.captured_micro, 6) end;
  return v_facts;
end $$;
comment on function billing._usage_facts(billing.usage_events) is 'What one usage event adds to the sums of usage.';
revoke all on function billing._usage_facts from public, anon, authenticated, service_role;

-- Notes what became different: the new facts, and the old ones taken back.
create function private.note_usage_change() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_old billing.usage_facts;
  v_new billing.usage_facts;
begin
  if tg_op <> 'DELETE' then
    v_new := billing._usage_facts(new);
  end if;
  if tg_op <> 'INSERT' then
    v_old := billing._usage_facts(old);
  end if;
  if (v_old.workspace_id, v_old.starts_at, v_old.meter_id, v_old.user_id, v_old.source) is not distinct from
    (v_new.workspace_id, v_new.starts_at, v_new.meter_id, v_new.user_id, v_new.source) then
    v_new.charges := v_new.charges - v_old.charges;
    v_new.quantity := v_new.quantity - v_old.quantity;
    v_new.refunded_quantity := v_new.refunded_quantity - v_old.refunded_quantity;
    v_new.captured_micro := v_new.captured_micro - v_old.captured_micro;
    v_new.refunded_micro := v_new.refunded_micro - v_old.refunded_micro;
  elsif tg_op <> 'INSERT' and old.status in ('captured', 'refunded') then
    insert into billing.usage_changes (workspace_id, starts_at, meter_id, user_id, source, charges, quantity,
      refunded_quantity, captured_micro, refunded_micro)
    values (v_old.workspace_id, v_old.starts_at, v_old.meter_id, v_old.user_id, v_old.source, -v_old.charges,
      -v_old.quantity, -v_old.refunded_quantity, -v_old.captured_micro, -v_old.refunded_micro);
  end if;
  if v_new.charges <> 0 or v_new.quantity <> 0 or v_new.captured_micro <> 0 or v_new.refunded_micro <> 0
    or v_new.refunded_quantity <> 0 then
    insert into billing.usage_changes (workspace_id, starts_at, meter_id, user_id, source, charges, quantity,
      refunded_quantity, captured_micro, refunded_micro)
    values (v_new.workspace_id, v_new.starts_at, v_new.meter_id, v_new.user_id, v_new.source, v_new.charges,
      v_new.quantity, v_new.refunded_quantity, v_new.captured_micro, v_new.refunded_micro);
  end if;
  return null;
end $$;
comment on function private.note_usage_change() is 'Trigger: notes what a settled charge changes in the sums of usage.';
revoke all on function private.note_usage_change from public, anon, authenticated, service_role;
-- a hold and its release are no usage: asking for work costs nothing here
create trigger usage_events_note_settled after insert on billing.usage_events for each row
  when (new.status in ('captured', 'refunded')) execute function private.note_usage_change();
create trigger usage_events_note_change after update on billing.usage_events for each row
  when (old.status in ('captured', 'refunded') or new.status in ('captured', 'refunded'))
  execute function private.note_usage_change();
create trigger usage_events_note_deleted after delete on billing.usage_events for each row
  when (old.status in ('captured', 'refunded')) execute function private.note_usage_change();

-- Sweep: adds what charges have changed to the sums, up to 50,000 changes; returns how many. Whoever holds the lock
-- is the only one who writes sums, so that rebuilding and adding never meet.
create function billing.roll_up_usage() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_taken integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('billing.usage_rollups', 0)) then
    return 0;
  end if;
  with taken as (
    delete from billing.usage_changes c
    where c.id in (select o.id from billing.usage_changes o order by o.id limit 50000)
    returning c.*
  ), added as (
    insert into billing.usage_rollups as r (workspace_id, grain, starts_at, meter_id, user_id, source, charges,
      quantity, refunded_quantity, captured_micro, refunded_micro)
    select t.workspace_id, g.grain, g.starts_at, t.meter_id, t.user_id, t.source, sum(t.charges), sum(t.quantity),
      sum(t.refunded_quantity), sum(t.captured_micro), sum(t.refunded_micro)
    from taken t
    cross join lateral (values ('quarter', t.starts_at), ('hour', date_trunc('hour', t.starts_at, 'UTC')),
      ('day', date_trunc('day', t.starts_at, 'UTC'))) as g (grain, starts_at)
    group by t.workspace_id, g.grain, g.starts_at, t.meter_id, t.user_id, t.source
    on conflict on constraint usage_rollups_bucket_key do update
    set charges = r.charges + excluded.charges, quantity = r.quantity + excluded.quantity,
      refunded_quantity = r.refunded_quantity + excluded.refunded_quantity,
      captured_micro = r.captured_micro + excluded.captured_micro,
      refunded_micro = r.refunded_micro + excluded.refunded_micro
  )
  select count(*) into v_taken from taken;
  delete from billing.usage_rollups r where r.charges = 0 and r.quantity = 0 and r.refunded_quantity = 0
    and r.captured_micro = 0 and r.refunded_micro = 0;
  return v_taken;
end $$;
comment on function billing.roll_up_usage() is
  'Sweep: adds the changes that charges have noted to the sums of usage; returns how many.';
revoke all on function billing.roll_up_usage from public, anon, authenticated, service_role;
grant execute on function billing.roll_up_usage to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('roll up usage', 'billing.roll_up_usage', interval '20 seconds');

-- Sums of all usage events as they are, by bucket of one grain; null: of all workspaces.
create function billing._usage_sums(workspace_id uuid) returns setof billing.usage_rollups
language sql stable
set search_path = ''
as $$
  select null::bigint, f.workspace_id, g.grain, g.starts_at, f.meter_id, f.user_id, f.source, sum(f.charges),
    sum(f.quantity), sum(f.refunded_quantity), sum(f.captured_micro)::bigint, sum(f.refunded_micro)::bigint
  from billing.usage_events e
  cross join lateral billing._usage_facts(e) f
  cross join lateral (values ('quarter', f.starts_at), ('hour', date_trunc('hour', f.starts_at, 'UTC')),
    ('day', date_trunc('day', f.starts_at, 'UTC'))) as g (grain, starts_at)
  where e.status in ('captured', 'refunded')
    and (_usage_sums.workspace_id is null or e.workspace_id = _usage_sums.workspace_id)
  group by f.workspace_id, g.grain, g.starts_at, f.meter_id, f.user_id, f.source
$$;
comment on function billing._usage_sums(uuid) is
  'Sums of usage straight from the usage events, in the form of usage_rollups.';
revoke all on function billing._usage_sums from public, anon, authenticated, service_role;

-- Makes the sums of a workspace anew from its usage events (null: of all), while charges go on. Reading the events
-- and taking away the changes they noted is one statement: what is not in the one is not in the other.
create function billing.rebuild_usage(workspace_id uuid default null) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_made integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('billing.usage_rollups', 0));
  delete from billing.usage_rollups r
  where rebuild_usage.workspace_id is null or r.workspace_id = rebuild_usage.workspace_id;
  with gone as (
    delete from billing.usage_changes c
    where rebuild_usage.workspace_id is null or c.workspace_id = rebuild_usage.workspace_id
  )
  insert into billing.usage_rollups (workspace_id, grain, starts_at, meter_id, user_id, source, charges, quantity,
    refunded_quantity, captured_micro, refunded_micro)
  select s.workspace_id, s.grain, s.starts_at, s.meter_id, s.user_id, s.source, s.charges, s.quantity,
    s.refunded_quantity, s.captured_micro, s.refunded_micro
  from billing._usage_sums(rebuild_usage.workspace_id) s;
  get diagnostics v_made = row_count;
  return v_made;
end $$;
comment on function billing.rebuild_usage(uuid) is
  'Makes the sums of usage anew from the usage events; returns how many.';
revoke all on function billing.rebuild_usage from public, anon, authenticated, service_role;
grant execute on function billing.rebuild_usage to service_role;

-- A row for each sum that is not what its usage events say, changes on their way included; none when all are right.
create function billing.verify_usage(workspace uuid default null)
returns table (fault text, workspace_id uuid, subject text, expected_micro bigint, actual_micro bigint)
language sql stable security definer
set search_path = ''
as $$
  select 'sum of usage differs', s.workspace_id, concat_ws('/', s.grain, s.starts_at at time zone 'UTC', s.meter_id,
    s.user_id, s.source), sum(s.captured_micro - s.refunded_micro) filter (where s.side = 1),
    -sum(s.captured_micro - s.refunded_micro) filter (where s.side = -1)
  from (
    select 1 as side, e.* from billing._usage_sums(verify_usage.workspace) e
    union all
    select -1, null, r.workspace_id, r.grain, r.starts_at, r.meter_id, r.user_id, r.source, -r.charges, -r.quantity,
      -r.refunded_quantity, -r.captured_micro, -r.refunded_micro
    from billing.usage_rollups r
    where verify_usage.workspace is null or r.workspace_id = verify_usage.workspace
    union all
    select -1, null, c.workspace_id, g.grain, g.starts_at, c.meter_id, c.user_id, c.source, -c.charges, -c.quantity,
      -c.refunded_quantity, -c.captured_micro, -c.refunded_micro
    from billing.usage_changes c
    cross join lateral (values ('quarter', c.starts_at), ('hour', date_trunc('hour', c.starts_at, 'UTC')),
      ('day', date_trunc('day', c.starts_at, 'UTC'))) as g (grain, starts_at)
    where verify_usage.workspace is null or c.workspace_id = verify_usage.workspace
  ) s
  group by s.workspace_id, s.grain, s.starts_at, s.meter_id, s.user_id, s.source
  having sum(s.charges) <> 0 or sum(s.quantity) <> 0 or sum(s.refunded_quantity) <> 0
    or sum(s.captured_micro) <> 0 or sum(s.refunded_micro) <> 0
$$;
comment on function billing.verify_usage(uuid) is
  'Checks the sums of usage against the usage events; a row for each fault, none when sound.';
revoke all on function billing.verify_usage from public, anon, authenticated, service_role;
grant execute on function billing.verify_usage to service_role;
