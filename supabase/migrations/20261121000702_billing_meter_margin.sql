-- What each meter brings beside what its work costs us at the providers, and the alert for one that sells below cost.

-- Charges that ended in the time given, until not included. A charge whose work several models did is shared among them
-- in proportion to what each cost; one that was released brought nothing, whatever its work cost. Costs are looked for
-- up to a week to either side of the charge's end. Per unit: of the meter, as it was charged.
create function billing.meter_margins(since timestamptz, until timestamptz default 'infinity')
returns table (meter text, provider text, model text, charges bigint, quantity numeric, earned_micro bigint,
  cost_micro bigint, margin_micro bigint, price_per_unit_micro numeric, cost_per_unit_micro numeric)
language sql stable
set search_path = ''
as $$
  with costs as materialized (
    select c.usage_event_id, c.provider, c.model, sum(c.cost_micro) as cost
    from billing.provider_costs c
    where c.usage_event_id is not null and c.occurred_at >= since - interval '7 days'
      and c.occurred_at < until + interval '7 days'
    group by c.usage_event_id, c.provider, c.model
  ), shares as (
    select m.slug, c.provider, c.model, c.cost, coalesce(e.captured_quantity, 0) as quantity,
      e.captured_micro - e.refunded_micro + coalesce((select sum(x.captured_micro - x.refunded_micro)
        from billing.usage_events x where x.corrects_id = e.id), 0) as earned,
      case when sum(c.cost) over w > 0 then c.cost / sum(c.cost) over w else 1.0 / count(*) over w end as share
    from costs c
    join billing.usage_events e on e.id = c.usage_event_id and e.completed_at >= since and e.completed_at < until
    join billing.meters m on m.id = e.meter_id
    window w as (partition by c.usage_event_id)
  ), sums as (
    select s.slug, s.provider, s.model, count(*) as charges, round(sum(s.quantity * s.share), 6) as quantity,
      round(sum(s.earned * s.share))::bigint as earned, sum(s.cost)::bigint as cost
    from shares s group by s.slug, s.provider, s.model
  )
  select s.slug, s.provider, s.model, s.charges, s.quantity, s.earned, s.cost, s.earned - s.cost,
    round(s.earned / nullif(s.quantity, 0), 2), round(s.cost / nullif(s.quantity, 0), 2)
  from sums s order by s.slug, s.provider, s.model
$$;
comment on function billing.meter_margins is
  'What each meter brought and its work cost at each provider''s models, for charges that ended in a time; for staff.';
revoke all on function billing.meter_margins from public, anon, authenticated, service_role;
grant execute on function billing.meter_margins to service_role;

create view billing.meter_margin with (security_invoker = true) as
select m.* from billing.meter_margins(private.now() - interval '30 days') m;
comment on view billing.meter_margin is
  'What each meter brought in 30 days and what its work cost at each provider''s models, in micro-units; for staff.';
revoke all on table billing.meter_margin from public, anon, authenticated, service_role;
grant select on table billing.meter_margin to service_role;

create table billing.meter_losses (
  day date not null,
  meter text not null,
  provider text not null,
  model text not null,
  charges bigint not null,
  quantity numeric not null,
  earned_micro bigint not null,
  cost_micro bigint not null,
  created_at timestamptz not null default now(),
  constraint meter_losses_pkey primary key (day, meter, provider, model),
  constraint meter_losses_is_a_loss check (charges > 0 and cost_micro > earned_micro)
);
comment on table billing.meter_losses is
  'Days on which a meter''s work cost more at a provider''s model than it brought; each is in the audit log, too.';
comment on column billing.meter_losses.day is 'In UTC.';
comment on column billing.meter_losses.model is 'Empty: the cost was recorded without one.';
create trigger meter_losses_immutable before update or delete on billing.meter_losses
  for each row execute function private.forbid_change();
alter table billing.meter_losses enable row level security;
revoke all on table billing.meter_losses from public, anon, authenticated, service_role;
grant select on table billing.meter_losses to service_role;

-- Sweep: looks at the last whole day in UTC and writes down, once, what sold below its cost. Returns how much is new.
create function billing.note_meter_losses() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_day date := (private.now() at time zone 'UTC')::date - 1;
  v_loss billing.meter_losses;
  v_new integer := 0;
begin
  for v_loss in
    insert into billing.meter_losses (day, meter, provider, model, charges, quantity, earned_micro, cost_micro)
    select v_day, m.meter, m.provider, coalesce(m.model, ''), m.charges, m.quantity, m.earned_micro, m.cost_micro
    from billing.meter_margins(v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC') m
    where m.margin_micro < 0
    order by m.meter, m.provider, m.model
    on conflict on constraint meter_losses_pkey do nothing
    returning *
  loop
    insert into ops.audit_log (event_id, action, resource, target_id, status, error_message, risk_level, metadata)
    values (left(format('meter_loss:%s:%s:%s:%s', v_loss.day, v_loss.meter, v_loss.provider, v_loss.model), 255),
      'billing.meter.loss', 'billing.meter_losses', v_loss.meter, 'failure',
      format('%s cost %s micro-units at %s and brought %s', v_loss.meter, v_loss.cost_micro, v_loss.provider,
        v_loss.earned_micro), 'high', to_jsonb(v_loss) - 'created_at');
    v_new := v_new + 1;
  end loop;
  return v_new;
end $$;
comment on function billing.note_meter_losses() is
  'Sweep: notes what sold below its cost yesterday, and tells staff by the audit log; returns how much is new.';
revoke all on function billing.note_meter_losses from public, anon, authenticated, service_role;
grant execute on function billing.note_meter_losses to service_role;
insert into ops.sweeps (name, function_name, every, is_long) values
  ('note meter losses', 'billing.note_meter_losses', interval '6 hours', true);
