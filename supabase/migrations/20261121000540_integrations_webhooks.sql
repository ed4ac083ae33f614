-- Webhooks of senders that keep a secret for each subscription (Twitch, WebSub, Printful) or sign nothing and are known
-- by an unguessable address (Prodigi, media servers). Every secret may have a successor before it ends, so that
-- rotating one drops no event.

with kinds as (
  insert into ops.job_kinds (kind, description, on_event) values
    ('webhook.razorpay', 'Works on one event of Razorpay.', 'ops.on_webhook_job'),
    ('webhook.shopify', 'Works on one event of a Shopify shop.', 'ops.on_webhook_job'),
    ('webhook.meta', 'Works on one message, comment or other change at Instagram, Facebook or WhatsApp.',
      'ops.on_webhook_job'),
    ('webhook.resend', 'Works on one event of an e-mail.', 'ops.on_webhook_job'),
    ('webhook.twitch', 'Works on one event of Twitch.', 'ops.on_webhook_job'),
    ('webhook.youtube', 'Works on one new, changed or deleted video of a channel.', 'ops.on_webhook_job'),
    ('webhook.prodigi', 'Works on one event of a Prodigi order.', 'ops.on_webhook_job'),
    ('webhook.printful', 'Works on one event of a Printful store.', 'ops.on_webhook_job'),
    ('webhook.mediamtx', 'Works on one call of a MediaMTX server.', 'ops.on_webhook_job'),
    ('webhook.nginx_rtmp', 'Works on one call of an nginx-rtmp server.', 'ops.on_webhook_job'),
    ('webhook.srs', 'Works on one call of an SRS server.', 'ops.on_webhook_job')
  returning kind
)
insert into ops.webhook_providers (provider, job_kind) select substr(k.kind, 9), k.kind from kinds k;
-- Like fal's: the job of a prediction waits for replicate:<prediction id>.
insert into ops.webhook_providers (provider, job_kind) values ('replicate', null);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_subscription', 'PT404', 'Open a subscription first; one that has ended takes no secret.');

create table integrations.webhook_subscriptions (
  id uuid primary key default gen_random_uuid(),
  connected_account_id uuid,
  provider text not null,
  topic text,
  external_id text,
  subscribed_fields text[] not null default '{}',
  status text not null default 'pending',
  last_verified_at timestamptz,
  lease_expires_at timestamptz,
  ended_at timestamptz,
  error_count integer not null default 0,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_subscriptions_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint webhook_subscriptions_provider_fkey foreign key (provider) references ops.webhook_providers (provider),
  constraint webhook_subscriptions_status_known check (status in ('pending', 'active', 'ended')),
  constraint webhook_subscriptions_ended_says_when check ((status = 'ended') = (ended_at is not null)),
  constraint webhook_subscriptions_error_count_positive check (error_count >= 0)
);
comment on table integrations.webhook_subscriptions is
  'What a sender was asked to send to an address of its own, for one connected account or for the platform itself.';
comment on column integrations.webhook_subscriptions.connected_account_id is
  'Null: the platform''s own, such as its media servers.';
comment on column integrations.webhook_subscriptions.topic is
  'What it is about: the event type at Twitch, the feed''s URL at YouTube, the name of a media server.';
comment on column integrations.webhook_subscriptions.external_id is 'The sender''s id of the subscription.';
comment on column integrations.webhook_subscriptions.lease_expires_at is
  'When it ends unless renewed, where the sender lends it for a time only.';
create unique index webhook_subscriptions_live
  on integrations.webhook_subscriptions (connected_account_id, provider, topic) nulls not distinct
  where status <> 'ended';
create index webhook_subscriptions_account on integrations.webhook_subscriptions (connected_account_id);
create index webhook_subscriptions_provider on integrations.webhook_subscriptions (provider);
create index webhook_subscriptions_lease on integrations.webhook_subscriptions (lease_expires_at)
  where status = 'active' and lease_expires_at is not null;
create trigger touch_webhook_subscriptions before update on integrations.webhook_subscriptions
  for each row execute function private.touch_updated_at();
alter table integrations.webhook_subscriptions enable row level security;
revoke all on table integrations.webhook_subscriptions from public, anon, authenticated, service_role;
grant select on table integrations.webhook_subscriptions to authenticated;
grant select, insert, update, delete on table integrations.webhook_subscriptions to service_role;

-- The accounts that the caller sees are those of the caller's workspaces.
create policy "Members see the subscriptions of their workspaces' accounts" on integrations.webhook_subscriptions
  for select to authenticated
  using (connected_account_id in (select a.id from integrations.connected_accounts a
    where a.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[])));

-- Encrypted as in integrations.account_secrets, bound to the row by its id. The address's token is found by its hash.
create table integrations.webhook_secrets (
  id uuid primary key,
  subscription_id uuid not null,
  kind text not null,
  key_id text not null,
  algorithm text not null default 'aes-256-gcm',
  nonce bytea not null,
  ciphertext bytea not null,
  token_hash bytea,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  constraint webhook_secrets_subscription_id_fkey foreign key (subscription_id)
    references integrations.webhook_subscriptions (id) on delete cascade,
  constraint webhook_secrets_token_hash_once unique (token_hash),
  constraint webhook_secrets_kind_known check (kind in ('url_token', 'signing_secret', 'stream_key')),
  constraint webhook_secrets_token_has_hash check ((kind = 'url_token') = (token_hash is not null)),
  constraint webhook_secrets_token_hash_length check (octet_length(token_hash) = 32),
  constraint webhook_secrets_algorithm_known check (algorithm = 'aes-256-gcm'),
  constraint webhook_secrets_nonce_length check (octet_length(nonce) = 12),
  constraint webhook_secrets_ciphertext_has_tag check (octet_length(ciphertext) > 16),
  constraint webhook_secrets_key_id_length check (char_length(key_id) between 1 and 100)
);
comment on table integrations.webhook_secrets is
  'Secrets of webhook subscriptions, encrypted outside the database; only the service reads or writes them.';
comment on column integrations.webhook_secrets.kind is
  'url_token: part of the address; signing_secret: the sender signs with it; stream_key: opens streams at a server.';
comment on column integrations.webhook_secrets.expires_at is 'Until when an old secret is valid beside its successor.';
create index webhook_secrets_subscription_id on integrations.webhook_secrets (subscription_id);
create index webhook_secrets_key_id on integrations.webhook_secrets (key_id);
create index webhook_secrets_expires_at on integrations.webhook_secrets (expires_at) where expires_at is not null;
alter table integrations.webhook_secrets enable row level security;
revoke all on table integrations.webhook_secrets from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.webhook_secrets to service_role;

alter table ops.webhook_events add column subscription_id uuid,
  add constraint webhook_events_subscription_id_fkey foreign key (subscription_id)
    references integrations.webhook_subscriptions (id) on delete set null;
comment on column ops.webhook_events.subscription_id is 'The subscription whose address the event came to.';
create index webhook_events_subscription on ops.webhook_events (subscription_id) where subscription_id is not null;

-- secret: {id, kind, key_id, nonce, ciphertext, token_hash}, bytes as \x hex. With an overlap, the subscription's other
-- secrets of that kind end after it. Errors: unknown_subscription.
create function integrations.add_webhook_secret(subscription_id uuid, secret jsonb, overlap interval default null)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform from integrations.webhook_subscriptions s
  where s.id = add_webhook_secret.subscription_id and s.status <> 'ended' for update;
  if not found then
    perform private.fail('unknown_subscription', 'There is no such live subscription.',
      jsonb_build_object('subscription_id', subscription_id));
  end if;
  if overlap is not null then
    update integrations.webhook_secrets k
    set expires_at = least(k.expires_at, private.now() + overlap)
    where k.subscription_id = add_webhook_secret.subscription_id and k.kind = secret ->> 'kind';
  end if;
  insert into integrations.webhook_secrets
    (id, subscription_id, kind, key_id, nonce, ciphertext, token_hash)
  select r.id, add_webhook_secret.subscription_id, r.kind, r.key_id, r.nonce, r.ciphertext, r.token_hash
  from jsonb_to_record(secret)
    as r (id uuid, kind text, key_id text, nonce bytea, ciphertext bytea, token_hash bytea);
end $$;
comment on function integrations.add_webhook_secret(uuid, jsonb, interval) is
  'Adds an encrypted secret to a subscription and, with an overlap, lets its predecessors end after that time.';
revoke all on function integrations.add_webhook_secret from public, anon, authenticated, service_role;
grant execute on function integrations.add_webhook_secret to service_role;

create function integrations.open_webhook_subscription(id uuid, provider text, secrets jsonb,
  connected_account_id uuid default null, topic text default null, subscribed_fields text[] default '{}',
  status text default 'pending') returns integrations.webhook_subscriptions
language plpgsql
set search_path = ''
as $$
declare
  v_subscription integrations.webhook_subscriptions;
begin
  insert into integrations.webhook_subscriptions as s
    (id, provider, connected_account_id, topic, subscribed_fields, status)
  values (open_webhook_subscription.id, open_webhook_subscription.provider,
    open_webhook_subscription.connected_account_id, open_webhook_subscription.topic,
    coalesce(open_webhook_subscription.subscribed_fields, '{}'),
    coalesce(open_webhook_subscription.status, 'pending'))
  returning s.* into v_subscription;
  perform integrations.add_webhook_secret(v_subscription.id, e.secret) from jsonb_array_elements(secrets) e (secret);
  return v_subscription;
end $$;
comment on function integrations.open_webhook_subscription(uuid, text, jsonb, uuid, text, text[], text) is
  'Makes a subscription together with its encrypted secrets; it is active once the sender has confirmed it.';
revoke all on function integrations.open_webhook_subscription from public, anon, authenticated, service_role;
grant execute on function integrations.open_webhook_subscription to service_role;

create function integrations.confirm_webhook_subscription(id uuid, external_id text default null,
  lease_seconds integer default null) returns void
language sql
set search_path = ''
as $$
  update integrations.webhook_subscriptions s
  set status = 'active', last_verified_at = private.now(),
    external_id = coalesce(confirm_webhook_subscription.external_id, s.external_id),
    lease_expires_at = coalesce(private.now() + make_interval(secs => lease_seconds), s.lease_expires_at)
  where s.id = confirm_webhook_subscription.id and s.status <> 'ended'
$$;
comment on function integrations.confirm_webhook_subscription(uuid, text, integer) is
  'The sender has confirmed a subscription, or renewed it for so many seconds.';
revoke all on function integrations.confirm_webhook_subscription from public, anon, authenticated, service_role;
grant execute on function integrations.confirm_webhook_subscription to service_role;

create function integrations.end_webhook_subscription(id uuid, reason text default null) returns void
language sql
set search_path = ''
as $$
  update integrations.webhook_subscriptions s
  set status = 'ended', ended_at = private.now(), lease_expires_at = null, last_error = reason
  where s.id = end_webhook_subscription.id and s.status <> 'ended'
$$;
comment on function integrations.end_webhook_subscription(uuid, text) is
  'Ends a subscription, on our wish or the sender''s; its address takes nothing from then on.';
revoke all on function integrations.end_webhook_subscription from public, anon, authenticated, service_role;
grant execute on function integrations.end_webhook_subscription to service_role;

-- The addresses stay until the account is purged, so that late senders are told that the subscription has ended.
create function private.end_account_webhooks() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform integrations.end_webhook_subscription(s.id, 'account disconnected')
  from integrations.webhook_subscriptions s where s.connected_account_id = new.id;
  delete from integrations.webhook_secrets k using integrations.webhook_subscriptions s
  where s.connected_account_id = new.id and k.subscription_id = s.id and k.kind <> 'url_token';
  return null;
end $$;
comment on function private.end_account_webhooks() is 'Ends the subscriptions of an account that is disconnected.';
revoke all on function private.end_account_webhooks from public, anon, authenticated, service_role;
create trigger end_account_webhooks after update of status on integrations.connected_accounts
  for each row when (new.status = 'disconnected' and old.status <> 'disconnected')
  execute function private.end_account_webhooks();

create function private.purge_webhook_secrets() returns integer
language sql
set search_path = ''
as $$
  with purged as (
    delete from integrations.webhook_secrets k where k.expires_at <= private.now() - interval '1 day' returning 1
  )
  select count(*)::integer from purged
$$;
comment on function private.purge_webhook_secrets() is
  'Deletes secrets a day after they were replaced; a sweep of ops.tick() calls it.';
revoke all on function private.purge_webhook_secrets from public, anon, authenticated, service_role;
grant execute on function private.purge_webhook_secrets to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('purge webhook secrets', 'private.purge_webhook_secrets', interval '1 hour');
