-- A seller's listings at Amazon, imported as products like those of a file: a batch that shows how far it is, rows by
-- their SKU with what is in stock, errors by row. Read whole when the seller connects, and what has changed every six
-- hours.

insert into private.error_codes (name, sqlstate, hint) values
  ('account_not_active', 'PT409', 'Connect the account again, then ask once more.');

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('commerce.amazon_import', 'Imports the listings of an Amazon seller.', 'commerce.on_import_job', interval '2 days',
    'amazon');
-- Usage plans go by seller and app: two readings of one seller would only wait for each other.
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('key', 'amazon', 1, null, null, 'Jobs at work on one Amazon seller at the same time.');

alter table commerce.product_import_batches
  add column connected_account_id uuid,
  add constraint product_import_batches_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete set null;
comment on column commerce.product_import_batches.connected_account_id is
  'The account that is imported from; null: a file.';
-- One at a time of an account: what is asked for meanwhile is the one under way.
create unique index product_import_batches_one_of_account on commerce.product_import_batches (connected_account_id)
  where connected_account_id is not null and status = 'importing';
create index product_import_batches_account on commerce.product_import_batches (connected_account_id, created_at desc)
  where connected_account_id is not null;

-- kind: full, or changes (since the last import; of a seller who was never imported, all).
create function private.begin_amazon_import(account integrations.connected_accounts, kind text, user_id uuid)
returns commerce.product_import_batches
language plpgsql
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  perform 1 from integrations.connected_accounts a where a.id = account.id for update;
  select * into v_batch from commerce.product_import_batches b
  where b.connected_account_id = account.id and b.status = 'importing';
  if v_batch.id is not null then
    return v_batch;
  end if;
  insert into commerce.product_import_batches (workspace_id, connected_account_id, source, source_file_name,
    auto_import, status, started_at, created_by)
  values (account.workspace_id, account.id, 'amazon', coalesce(account.display_name, account.external_account_id), true,
    'importing', private.now(), begin_amazon_import.user_id)
  returning * into v_batch;
  update commerce.product_import_batches b
  set job_id = (select j.job_id from ops.enqueue_job('commerce.amazon_import', jsonb_build_object('batch_id', b.id,
      'account_id', account.id, 'step', 'import', 'since', case when kind = 'changes' then
        to_char(account.last_sync_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end),
      b.workspace_id, max_attempts => 8, key => 'import:' || b.id, limit_key => 'amazon:' || account.id) j)
  where b.id = v_batch.id returning * into v_batch;
  return v_batch;
end $$;
comment on function private.begin_amazon_import(integrations.connected_accounts, text, uuid) is
  'Begins to import a seller''s listings; gives the import under way where there is one.';
revoke all on function private.begin_amazon_import from public, anon, authenticated, service_role;

create function private.begin_amazon(account integrations.connected_accounts) returns void
language sql
set search_path = ''
as $$ select private.begin_amazon_import(account, 'full', account.user_id) $$;
comment on function private.begin_amazon(integrations.connected_accounts) is
  'An Amazon seller has been connected: the listings are imported.';
revoke all on function private.begin_amazon from public, anon, authenticated, service_role;
insert into integrations.connect_handlers (provider, function_name) values ('amazon', 'private.begin_amazon');

-- Errors: unknown_account, role_too_low, account_not_active, invalid_argument.
create function private.request_amazon_import(account_id uuid, kind text) returns commerce.product_import_batches
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := (
    select a from integrations.connected_accounts a
    where a.id = request_amazon_import.account_id and a.provider = 'amazon');
begin
  if v_account.id is null or not private.has_role(v_account.workspace_id, 'viewer') then
    perform private.fail('unknown_account', 'There is no such Amazon account among those of your workspaces.',
      jsonb_build_object('account_id', request_amazon_import.account_id));
  end if;
  perform private.require_role(v_account.workspace_id, 'member');
  if coalesce(kind, '') not in ('full', 'changes') then
    perform private.fail('invalid_argument', 'kind must be full or changes.', '{"argument": "kind"}');
  end if;
  if v_account.status <> 'active' then
    perform private.fail('account_not_active', 'The account is ' || v_account.status || '.',
      jsonb_build_object('account_id', v_account.id, 'status', v_account.status));
  end if;
  return private.begin_amazon_import(v_account, kind, auth.uid());
end $$;
comment on function private.request_amazon_import(uuid, text) is 'Core of commerce.request_amazon_import.';
revoke all on function private.request_amazon_import from public, anon, authenticated, service_role;
grant execute on function private.request_amazon_import to authenticated, service_role;
create function commerce.request_amazon_import(account_id uuid, kind text default 'changes')
returns commerce.product_import_batches
language sql
set search_path = ''
as $$ select private.request_amazon_import(request_amazon_import.account_id, request_amazon_import.kind) $$;
comment on function commerce.request_amazon_import(uuid, text) is
  'Imports a seller''s listings, all or those that changed; its row is an import like that of a file.';
revoke all on function commerce.request_amazon_import from public, anon, authenticated, service_role;
grant execute on function commerce.request_amazon_import to authenticated, service_role;

-- rows as commerce.store_import_rows takes them, errors as commerce.note_import_check; valid and invalid count all
-- pages so far. False: the import has ended.
create function commerce.store_amazon_page(batch_id uuid, rows jsonb, errors jsonb, valid integer, invalid integer,
  percent integer) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_workspace uuid;
begin
  update commerce.product_import_batches b
  set valid_rows = valid, invalid_rows = invalid, total_rows = valid + invalid,
    preview = case when jsonb_array_length(b.preview) = 0 then coalesce(
      (select jsonb_agg(r) from jsonb_array_elements(rows) with ordinality as e (r, n) where n <= 20), '[]')
      else b.preview end
  where b.id = batch_id and b.status = 'importing'
  returning b.workspace_id into v_workspace;
  if v_workspace is null then
    return false;
  end if;
  insert into commerce.product_import_errors (batch_id, row_number, column_name, workspace_id, code, message, value)
  select store_amazon_page.batch_id, e."row", e."column", v_workspace, e.code, e.message, left(e.value, 200)
  from jsonb_to_recordset(errors) as e ("row" integer, "column" text, code text, message text, value text)
  on conflict on constraint product_import_errors_pkey do nothing;
  update commerce.imported_products p set status = 'pending'
  from jsonb_array_elements(rows) r
  where p.workspace_id = v_workspace and p.source = 'amazon' and p.external_id = r ->> 'external_id'
    and p.status = 'archived';
  return commerce.store_import_rows(batch_id, rows, percent);
end $$;
comment on function commerce.store_amazon_page(uuid, jsonb, jsonb, integer, integer, integer) is
  'Writes a page of a seller''s listings; false when the import has ended.';
revoke all on function commerce.store_amazon_page from public, anon, authenticated, service_role;
grant execute on function commerce.store_amazon_page to service_role;

-- stock: {sku: quantity}, of what Amazon sends to buyers.
create function commerce.store_amazon_stock(batch_id uuid, stock jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_workspace uuid;
begin
  select b.workspace_id into v_workspace from commerce.product_import_batches b
  where b.id = batch_id and b.status = 'importing' for update;
  if v_workspace is null then
    return false;
  end if;
  update commerce.imported_products p set inventory_quantity = s.value::bigint
  from jsonb_each_text(stock) s
  where p.workspace_id = v_workspace and p.source = 'amazon' and p.external_id = left(s.key, 255)
    and p.fulfilled_by = 'amazon' and p.inventory_quantity is distinct from s.value::bigint;
  return true;
end $$;
comment on function commerce.store_amazon_stock(uuid, jsonb) is
  'Writes how much of a seller''s products Amazon''s warehouses have; false when the import has ended.';
revoke all on function commerce.store_amazon_stock from public, anon, authenticated, service_role;
grant execute on function commerce.store_amazon_stock to service_role;

-- The next import of changes begins five minutes before this one did: clocks differ, and reading twice does no harm.
create function commerce.finish_amazon_import(batch_id uuid, account_id uuid, is_full boolean) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches := commerce.finish_import(batch_id);
begin
  if v_batch.id is null then
    return;
  end if;
  if is_full then
    update commerce.imported_products p set status = 'archived'
    where p.workspace_id = v_batch.workspace_id and p.source = 'amazon' and p.status <> 'archived'
      and p.import_batch_id is distinct from v_batch.id;
  end if;
  update integrations.connected_accounts a set last_sync_at = v_batch.started_at - interval '5 minutes'
  where a.id = finish_amazon_import.account_id;
end $$;
comment on function commerce.finish_amazon_import(uuid, uuid, boolean) is
  'All listings have been written; of a full import, those that are gone are archived.';
revoke all on function commerce.finish_amazon_import from public, anon, authenticated, service_role;
grant execute on function commerce.finish_amazon_import to service_role;

create function private.import_due_amazon() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_begun integer := 0;
begin
  for v_account in
    select * from integrations.connected_accounts a
    where a.provider = 'amazon' and a.status = 'active'
      -- one that was never read to the end is read as a whole
      and coalesce(a.last_sync_at, a.connected_at) < private.now() - interval '6 hours'
      and not exists (select from commerce.product_import_batches b
        where b.connected_account_id = a.id and b.created_at > private.now() - interval '6 hours')
    order by coalesce(a.last_sync_at, a.connected_at) limit 200
  loop
    perform private.begin_amazon_import(v_account, 'changes', null);
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.import_due_amazon() is 'Sweep: imports what sellers have changed, every six hours.';
revoke all on function private.import_due_amazon from public, anon, authenticated, service_role;
grant execute on function private.import_due_amazon to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('import from amazon', 'private.import_due_amazon', interval '10 minutes');
