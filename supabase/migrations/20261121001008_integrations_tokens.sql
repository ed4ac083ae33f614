-- The work that connections need: tokens renewed before they end, webhooks of shops kept subscribed, the first sync.

insert into ops.job_kinds (kind, description, timeout) values
  ('integrations.refresh_token', 'Renews the tokens of a connected account before they end.', interval '1 day'),
  ('shopify.verify_webhooks', 'Keeps what a shop is to send subscribed.', interval '1 day');

-- A key for the very token that ends: it is renewed by one job, however often the sweep looks. What fails for long is
-- tried again as another job a day later, before the end as after it, until the account is connected anew.
create function private.refresh_due_tokens() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account record;
  v_begun integer := 0;
begin
  for v_account in
    select a.id, a.workspace_id, a.token_expires_at from integrations.connected_accounts a
    where a.status = 'active' and (a.token_expires_at < private.now() + interval '10 minutes'
        -- tokens of weeks are renewed days before, once a day until it works
        or (a.token_expires_at < private.now() + interval '7 days'
          and coalesce(a.token_last_refreshed_at, a.connected_at) < private.now() - interval '1 day'))
      and a.token_expires_at > private.now() - interval '7 days'
      and exists (select from integrations.account_secrets s where s.account_id = a.id and s.kind = 'refresh_token')
    order by a.token_expires_at limit 500
  loop
    perform ops.enqueue_job('integrations.refresh_token', jsonb_build_object('account_id', v_account.id),
      v_account.workspace_id, max_attempts => 8, priority => 5,
      key => format('refresh:%s:%s:%s', v_account.id, extract(epoch from v_account.token_expires_at)::bigint,
        floor(extract(epoch from private.now() - v_account.token_expires_at) / 86400)));
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.refresh_due_tokens() is
  'Sweep: renews tokens that end within ten minutes, those of weeks within seven days.';
revoke all on function private.refresh_due_tokens from public, anon, authenticated, service_role;
grant execute on function private.refresh_due_tokens to service_role;

-- Once for a time: the hour of a check by the clock, the second of a new connection.
create function private.begin_webhook_check(account_id uuid, workspace_id uuid, at timestamptz) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform ops.enqueue_job('shopify.verify_webhooks', jsonb_build_object('account_id', account_id), workspace_id,
    limit_key => 'shopify:' || account_id, key => format('webhooks:%s:%s', account_id, extract(epoch from at)::bigint));
end $$;
comment on function private.begin_webhook_check(uuid, uuid, timestamptz) is
  'Has a shop''s webhook subscriptions checked.';
revoke all on function private.begin_webhook_check from public, anon, authenticated, service_role;

-- Once a day for each shop.
create function private.verify_shop_webhooks() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account record;
  v_begun integer := 0;
begin
  for v_account in
    select a.id, a.workspace_id from integrations.connected_accounts a
    where a.provider = 'shopify' and a.status = 'active' and a.connected_at < private.now() - interval '1 hour'
      and not exists (select from integrations.webhook_subscriptions s
        where s.connected_account_id = a.id and s.status = 'active'
          and s.last_verified_at > private.now() - interval '1 day')
    order by a.last_used_at nulls first limit 200
  loop
    perform private.begin_webhook_check(v_account.id, v_account.workspace_id, date_trunc('hour', private.now()));
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.verify_shop_webhooks() is 'Sweep: has the webhooks of each shop checked once a day.';
revoke all on function private.verify_shop_webhooks from public, anon, authenticated, service_role;
grant execute on function private.verify_shop_webhooks to service_role;

-- subscriptions: [{topic, external_id}], all that the shop has of ours now.
create function integrations.keep_shop_webhooks(account_id uuid, subscriptions jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_kept integer;
begin
  insert into integrations.webhook_subscriptions as s
    (connected_account_id, provider, topic, external_id, status, last_verified_at)
  select keep_shop_webhooks.account_id, 'shopify', n.topic, n.external_id, 'active', private.now()
  from jsonb_to_recordset(subscriptions) as n (topic text, external_id text)
  on conflict (connected_account_id, provider, topic) where status <> 'ended' do update
  set external_id = excluded.external_id, status = 'active', last_verified_at = excluded.last_verified_at,
    error_count = 0, last_error = null;
  get diagnostics v_kept = row_count;
  perform integrations.end_webhook_subscription(s.id, 'not at the shop any more')
  from integrations.webhook_subscriptions s
  where s.connected_account_id = keep_shop_webhooks.account_id and s.provider = 'shopify' and s.status <> 'ended'
    and s.topic not in (select n.topic from jsonb_to_recordset(subscriptions) as n (topic text));
  return v_kept;
end $$;
comment on function integrations.keep_shop_webhooks(uuid, jsonb) is
  'Notes what a shop is subscribed to; returns how many topics that are.';
revoke all on function integrations.keep_shop_webhooks from public, anon, authenticated, service_role;
grant execute on function integrations.keep_shop_webhooks to service_role;

create function private.begin_shop(account integrations.connected_accounts) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform private.begin_webhook_check(account.id, account.workspace_id, account.connected_at);
  perform private.begin_shopify_sync(account, 'full', account.user_id);
end $$;
comment on function private.begin_shop(integrations.connected_accounts) is
  'A shop has been connected: its webhooks are subscribed and its catalog is read.';
revoke all on function private.begin_shop from public, anon, authenticated, service_role;
insert into integrations.connect_handlers (provider, function_name) values ('shopify', 'private.begin_shop');

insert into ops.sweeps (name, function_name, every) values
  ('refresh tokens', 'private.refresh_due_tokens', interval '1 minute'),
  ('verify shop webhooks', 'private.verify_shop_webhooks', interval '10 minutes'),
  ('expire installations', 'private.expire_installations', interval '1 hour');
