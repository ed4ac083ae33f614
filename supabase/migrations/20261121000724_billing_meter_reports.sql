-- Usage reported to Stripe's billing meters, for workspaces that are billed by it. What the provider has been told of
-- an hour is kept for ever; of an hour whose sums change it is told the difference. The provider knows an identifier
-- for a day, the rows for ever: together no usage is counted twice, and none is forgotten.

create table billing.reported_meters (
  meter_id uuid primary key,
  event_name text not null,
  measure text not null default 'quantity',
  scale integer not null default 1,
  created_at timestamptz not null default now(),
  constraint reported_meters_meter_id_fkey foreign key (meter_id) references billing.meters (id) on delete cascade,
  constraint reported_meters_event_name_length check (char_length(event_name) between 1 and 100),
  constraint reported_meters_measure_known check (measure in ('quantity', 'cost')),
  constraint reported_meters_scale_in_range check (scale between 1 and 1000000)
);
comment on table billing.reported_meters is
  'Meters whose usage is reported to Stripe, under which name, and what is counted.';
comment on column billing.reported_meters.measure is
  'quantity: units that were captured and not refunded; cost: what they cost, in micro-units.';
comment on column billing.reported_meters.scale is
  'The provider takes whole numbers: a quantity is multiplied by this, and the hour''s sum is rounded.';
alter table billing.reported_meters enable row level security;
revoke all on table billing.reported_meters from public, anon, authenticated, service_role;
grant select, insert, delete on table billing.reported_meters to service_role;

create table billing.meter_reporting (
  workspace_id uuid primary key,
  provider_customer_id text not null,
  report_from_at timestamptz not null,
  is_active boolean not null default true,
  job_id bigint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint meter_reporting_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade
);
comment on table billing.meter_reporting is
  'Workspaces whose usage is reported to Stripe, as which customer and since when.';
comment on column billing.meter_reporting.job_id is 'The job that sends, or sent last.';
create trigger meter_reporting_touch before update on billing.meter_reporting for each row
  execute function private.touch_updated_at();
alter table billing.meter_reporting enable row level security;
revoke all on table billing.meter_reporting from public, anon, authenticated, service_role;
grant select on table billing.meter_reporting to service_role;

create table billing.due_meter_reports (
  workspace_id uuid not null,
  meter_id uuid not null,
  starts_at timestamptz not null,
  constraint due_meter_reports_pkey primary key (workspace_id, meter_id, starts_at)
);
comment on table billing.due_meter_reports is 'Hours whose sums have changed since the provider was told of them.';
create index due_meter_reports_starts_at on billing.due_meter_reports (starts_at);
alter table billing.due_meter_reports enable row level security;
revoke all on table billing.due_meter_reports from public, anon, authenticated, service_role;
grant select on table billing.due_meter_reports to service_role;

create table billing.meter_reports (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  meter_id uuid not null,
  starts_at timestamptz not null,
  event_name text not null,
  provider_customer_id text not null,
  value bigint not null,
  status text not null default 'pending',
  attempts integer not null default 0,
  tried_at timestamptz,
  sent_at timestamptz,
  error text,
  created_at timestamptz not null default now(),
  constraint meter_reports_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint meter_reports_meter_id_fkey foreign key (meter_id) references billing.meters (id),
  constraint meter_reports_value_not_zero check (value <> 0),
  constraint meter_reports_status_known check (status in ('pending', 'sent', 'refused', 'skipped', 'uncertain')),
  constraint meter_reports_sent_has_time check ((status = 'sent') = (sent_at is not null)),
  constraint meter_reports_tried_has_time check ((attempts > 0) <= (tried_at is not null))
);
comment on table billing.meter_reports is
  'What the provider was told, or is to be told, of an hour''s usage; the id is the meter event''s identifier.';
comment on column billing.meter_reports.value is
  'To be added to what was reported of the hour; less than 0 takes back.';
comment on column billing.meter_reports.status is
  'skipped: too old for the provider; uncertain: sent a day ago without an answer, so that it may count or not.';
comment on column billing.meter_reports.tried_at is 'The first time it was sent without a certain refusal.';
create index meter_reports_pending on billing.meter_reports (workspace_id, created_at) where status = 'pending';
create index meter_reports_hour on billing.meter_reports (workspace_id, meter_id, starts_at);
create index meter_reports_meter_id on billing.meter_reports (meter_id);
alter table billing.meter_reports enable row level security;
revoke all on table billing.meter_reports from public, anon, authenticated, service_role;
grant select on table billing.meter_reports to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('no_provider_customer', 'PT409', 'The workspace needs a payment or subscription at the provider first.'),
  ('unknown_meter_report', 'PT404', 'Only a refused or uncertain report of billing.meter_reports can be decided.');
insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.report_usage', 'Reports a workspace''s usage to Stripe''s billing meters.', null, interval '2 days');

-- Notes the hours whose sums have changed, of workspaces and meters that are reported.
create function private.note_due_meter_reports() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into billing.due_meter_reports as d (workspace_id, meter_id, starts_at)
  select distinct c.workspace_id, c.meter_id, c.starts_at
  from changed_rows c
  join billing.meter_reporting r on r.workspace_id = c.workspace_id and r.is_active
  join billing.reported_meters m on m.meter_id = c.meter_id
  where c.grain = 'hour' and c.starts_at >= r.report_from_at
  on conflict on constraint due_meter_reports_pkey do nothing;
  return null;
end $$;
comment on function private.note_due_meter_reports() is 'Trigger: notes the hours that the provider is to be told of.';
revoke all on function private.note_due_meter_reports from public, anon, authenticated, service_role;
create trigger usage_rollups_note_new after insert on billing.usage_rollups
  referencing new table as changed_rows for each statement execute function private.note_due_meter_reports();
create trigger usage_rollups_note_changed after update on billing.usage_rollups
  referencing new table as changed_rows for each statement execute function private.note_due_meter_reports();
create trigger usage_rollups_note_gone after delete on billing.usage_rollups
  referencing old table as changed_rows for each statement execute function private.note_due_meter_reports();

-- Begins or ends reporting a workspace's usage. from_at: what was used since then is reported too, at most 34 days
-- back, because the provider takes 35; by default from this hour on. Where it is active already, that stays as it is,
-- and hours of meters that have been added since are noted. Errors: unknown_workspace, no_provider_customer,
-- invalid_argument.
create function billing.report_usage(workspace_id uuid, active boolean, from_at timestamptz default null)
returns billing.meter_reporting
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_from timestamptz := date_trunc('hour', coalesce(from_at, private.now()), 'UTC');
  v_customer text;
  v_reporting billing.meter_reporting;
begin
  if active is null or v_from > private.now() or v_from < private.now() - interval '34 days' then
    perform private.fail('invalid_argument', 'from_at must lie within the last 34 days.', '{"argument": "from_at"}');
  end if;
  -- no sum changes meanwhile, so that none of them is missed or noted in vain
  perform pg_advisory_xact_lock(hashtextextended('billing.usage_rollups', 0));
  v_customer := (billing._lock_wallet(report_usage.workspace_id)).provider_customer_id;
  v_customer := coalesce(v_customer, (select s.provider_customer_id from billing.subscriptions s
    where s.workspace_id = report_usage.workspace_id and s.provider = 'stripe' and s.provider_customer_id is not null
    order by s.created_at desc limit 1));
  if v_customer is null then
    perform private.fail('no_provider_customer', 'The provider does not know this workspace yet.',
      jsonb_build_object('workspace_id', report_usage.workspace_id));
  end if;
  insert into billing.meter_reporting as r (workspace_id, provider_customer_id, report_from_at, is_active)
  values (report_usage.workspace_id, v_customer, v_from, active)
  on conflict on constraint meter_reporting_pkey do update
  set provider_customer_id = excluded.provider_customer_id, is_active = excluded.is_active,
    report_from_at = case when r.is_active then r.report_from_at else excluded.report_from_at end
  returning * into v_reporting;
  insert into billing.due_meter_reports (workspace_id, meter_id, starts_at)
  select distinct u.workspace_id, u.meter_id, u.starts_at
  from billing.usage_rollups u join billing.reported_meters m on m.meter_id = u.meter_id
  where active and u.workspace_id = report_usage.workspace_id and u.grain = 'hour'
    and u.starts_at >= v_reporting.report_from_at
  on conflict on constraint due_meter_reports_pkey do nothing;
  return v_reporting;
end $$;
comment on function billing.report_usage is
  'Begins or ends reporting a workspace''s usage to Stripe''s billing meters.';
revoke all on function billing.report_usage from public, anon, authenticated, service_role;
grant execute on function billing.report_usage to service_role;
