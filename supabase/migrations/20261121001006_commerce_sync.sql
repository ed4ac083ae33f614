-- Reading a shop's catalog as a whole or what changed since, page by page, as a job that can stop after any page. The
-- row of a sync is what clients watch. Webhooks may be lost; the sweep makes good what they would have said.

insert into private.error_codes (name, sqlstate, hint) values
  ('shop_not_connected', 'PT409', 'Connect the shop again; then ask for the sync.'),
  ('unknown_sync', 'PT404', 'Use the id of a sync of one of your workspaces.');

create table commerce.shopify_syncs (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  kind text not null,
  status text not null default 'pending',
  stage text,
  progress smallint not null default 0,
  counts jsonb not null default '{}',
  since_at timestamptz,
  observed_at timestamptz,
  requested_by uuid,
  job_id bigint,
  error_code text,
  error_message text,
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint shopify_syncs_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint shopify_syncs_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_syncs_requested_by_fkey foreign key (requested_by)
    references identity.profiles (id) on delete set null,
  constraint shopify_syncs_kind_known check (kind in ('full', 'changes')),
  constraint shopify_syncs_status_known check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  constraint shopify_syncs_stage_known check (stage in ('products', 'levels', 'collections', 'members')),
  constraint shopify_syncs_progress_percent check (progress between 0 and 100),
  constraint shopify_syncs_counts_are_object check (jsonb_typeof(counts) = 'object'),
  constraint shopify_syncs_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint shopify_syncs_running_has_time check (status <> 'running' or started_at is not null),
  constraint shopify_syncs_failed_says_why check ((status = 'failed') = (error_code is not null)),
  constraint shopify_syncs_completed_saw check (status <> 'completed' or observed_at is not null)
);
comment on table commerce.shopify_syncs is 'Readings of a shop''s catalog: how far they are and what they found.';
comment on column commerce.shopify_syncs.kind is
  'full: everything, and what is not found is gone; changes: since a time.';
comment on column commerce.shopify_syncs.since_at is 'Of kind changes: what the shop changed from then on is read.';
comment on column commerce.shopify_syncs.observed_at is 'When the reading began, by the shop''s clock.';
comment on column commerce.shopify_syncs.counts is
  'By stage and result, such as {"products": {"applied": 40, "unchanged": 2}}; removed: what was not found any more.';
comment on column commerce.shopify_syncs.progress is 'Percent.';
create unique index shopify_syncs_one_live on commerce.shopify_syncs (connected_account_id, kind)
  where status in ('pending', 'running');
create index shopify_syncs_workspace_id on commerce.shopify_syncs (workspace_id, created_at desc);
create index shopify_syncs_account on commerce.shopify_syncs (connected_account_id, kind, completed_at desc);
create index shopify_syncs_requested_by on commerce.shopify_syncs (requested_by);
create trigger touch_shopify_syncs before update on commerce.shopify_syncs
  for each row execute function private.touch_updated_at();
alter table commerce.shopify_syncs enable row level security;
revoke all on table commerce.shopify_syncs from public, anon, authenticated, service_role;
grant select on table commerce.shopify_syncs to authenticated;
grant select, insert, update, delete on table commerce.shopify_syncs to service_role;
create policy "Members see the syncs of their workspaces" on commerce.shopify_syncs
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- on_event of shopify.sync: a job that ends badly takes its sync with it.
create function commerce.on_sync_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update commerce.shopify_syncs s
  set status = case event when 'replayed' then 'pending' when 'cancelled' then 'cancelled' else 'failed' end,
    error_code = case event when 'dead' then split_part(coalesce(job.error, 'internal_error'), ':', 1) end,
    error_message = case event when 'dead' then job.error end,
    completed_at = case when event <> 'replayed' then private.now() end
  where s.id = (job.payload ->> 'sync_id')::uuid and event in ('dead', 'cancelled', 'replayed')
    and (s.status in ('pending', 'running') or event = 'replayed');
end $$;
comment on function commerce.on_sync_job(ops.jobs, text) is 'Keeps a sync''s status the same as its job''s.';
revoke all on function commerce.on_sync_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('shopify.sync', 'Reads the catalog of a shop.', 'commerce.on_sync_job', interval '2 days');

create function private.begin_shopify_sync(account integrations.connected_accounts, what text, person uuid)
returns commerce.shopify_syncs
language plpgsql
set search_path = ''
as $$
declare
  v_sync commerce.shopify_syncs;
begin
  -- a little before the last one began, for what the shop was still writing then
  insert into commerce.shopify_syncs (workspace_id, connected_account_id, kind, requested_by, since_at)
  select account.workspace_id, account.id, what, person,
    case when what = 'changes' then coalesce(
      (select max(s.observed_at) from commerce.shopify_syncs s
        where s.connected_account_id = account.id and s.status = 'completed') - interval '10 minutes', '-infinity') end
  on conflict (connected_account_id, kind) where status in ('pending', 'running') do nothing
  returning * into v_sync;
  if v_sync.id is null then
    select * into v_sync from commerce.shopify_syncs s
    where s.connected_account_id = account.id and s.kind = what
      and s.status in ('pending', 'running');
    return v_sync;
  end if;
  update commerce.shopify_syncs s
  set job_id = (select j.job_id from ops.enqueue_job('shopify.sync', jsonb_build_object('sync_id', s.id),
    account.workspace_id, limit_key => 'shopify:' || account.id, key => 'shopify-sync:' || s.id) j)
  where s.id = v_sync.id
  returning * into v_sync;
  return v_sync;
end $$;
comment on function private.begin_shopify_sync(integrations.connected_accounts, text, uuid) is
  'Begins a sync of a shop, or finds the one that has begun.';
revoke all on function private.begin_shopify_sync from public, anon, authenticated, service_role;

create function private.request_shopify_sync(account_id uuid, kind text) returns commerce.shopify_syncs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
begin
  select * into v_account from integrations.connected_accounts a
  where a.id = request_shopify_sync.account_id and a.provider = 'shopify';
  if v_account.id is null or not private.has_role(v_account.workspace_id, 'viewer') then
    perform private.fail('unknown_account', 'There is no such shop among the accounts of your workspaces.',
      jsonb_build_object('account_id', account_id));
  end if;
  perform private.require_role(v_account.workspace_id, 'member');
  if v_account.status <> 'active' then
    perform private.fail('shop_not_connected', 'The shop is not connected at the moment.',
      jsonb_build_object('account_id', account_id, 'status', v_account.status));
  end if;
  if kind is null or kind not in ('full', 'changes') then
    perform private.fail('invalid_argument', 'kind is full or changes.', '{"argument": "kind"}');
  end if;
  return private.begin_shopify_sync(v_account, kind, auth.uid());
end $$;
comment on function private.request_shopify_sync(uuid, text) is 'Core of commerce.request_shopify_sync.';
revoke all on function private.request_shopify_sync from public, anon, authenticated, service_role;
grant execute on function private.request_shopify_sync to authenticated, service_role;

create function commerce.request_shopify_sync(account_id uuid, kind text default 'changes')
returns commerce.shopify_syncs
language sql
set search_path = ''
as $$ select private.request_shopify_sync(request_shopify_sync.account_id, request_shopify_sync.kind) $$;
comment on function commerce.request_shopify_sync(uuid, text) is
  'Begins to read a shop''s catalog, or answers the sync that is under way; members may.';
revoke all on function commerce.request_shopify_sync from public, anon, authenticated, service_role;
grant execute on function commerce.request_shopify_sync to authenticated, service_role;

create function private.cancel_shopify_sync(sync_id uuid) returns commerce.shopify_syncs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_sync commerce.shopify_syncs;
begin
  select * into v_sync from commerce.shopify_syncs s where s.id = sync_id;
  if v_sync.id is null or not private.has_role(v_sync.workspace_id, 'viewer') then
    perform private.fail('unknown_sync', 'There is no such sync among those of your workspaces.',
      jsonb_build_object('sync_id', sync_id));
  end if;
  perform private.require_role(v_sync.workspace_id, 'member');
  if v_sync.status in ('pending', 'running') then
    perform ops.cancel_job(v_sync.job_id);
  end if;
  select * into v_sync from commerce.shopify_syncs s where s.id = sync_id;
  return v_sync;
end $$;
comment on function private.cancel_shopify_sync(uuid) is 'Core of commerce.cancel_shopify_sync.';
revoke all on function private.cancel_shopify_sync from public, anon, authenticated, service_role;
grant execute on function private.cancel_shopify_sync to authenticated, service_role;

create function commerce.cancel_shopify_sync(sync_id uuid) returns commerce.shopify_syncs
language sql
set search_path = ''
as $$ select private.cancel_shopify_sync(cancel_shopify_sync.sync_id) $$;
comment on function commerce.cancel_shopify_sync(uuid) is 'Stops a sync; what has been read stays.';
revoke all on function commerce.cancel_shopify_sync from public, anon, authenticated, service_role;
grant execute on function commerce.cancel_shopify_sync to authenticated, service_role;
