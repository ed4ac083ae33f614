-- What belongs to one connected social account: the bot's settings, how its posts are read, how many messages it may
-- send, and how well it works. A row each from the moment of the connection.

create table social.bot_settings (
  account_id uuid primary key,
  workspace_id uuid not null,
  tryon_enabled boolean not null default true,
  auto_reply_enabled boolean not null default true,
  notifications_enabled boolean not null default true,
  trigger_keywords text[] not null default array['tryon', 'try on', 'try-on', 'try it on'],
  messages jsonb not null default '{}',
  promo_code text,
  daily_tryons_per_person integer not null default 5,
  takeover_minutes integer,
  business_hours_enabled boolean not null default false,
  timezone text not null default 'UTC',
  business_hours jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint bot_settings_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint bot_settings_keywords_few check (cardinality(trigger_keywords) <= 50),
  constraint bot_settings_promo_code_length check (length(promo_code) between 1 and 100),
  constraint bot_settings_daily_in_range check (daily_tryons_per_person between 1 and 100),
  constraint bot_settings_takeover_in_range check (takeover_minutes between 1 and 43200),
  constraint bot_settings_json_are_objects
    check (jsonb_typeof(messages) = 'object' and jsonb_typeof(business_hours) = 'object')
);
comment on table social.bot_settings is 'How the bot of an account behaves; a post''s bot_config goes before it.';
comment on column social.bot_settings.messages is
  'Texts by name where they differ from the built-in ones (social.bot_message_defaults).';
comment on column social.bot_settings.takeover_minutes is
  'How long the bot is silent after a member has written; null: until it is handed back.';
comment on column social.bot_settings.business_hours is
  'By weekday, in the timezone: {"mon": [["09:00", "18:00"]], "sat": []}; days that are missing are closed.';
create index bot_settings_workspace_id on social.bot_settings (workspace_id, account_id);
create trigger touch_bot_settings before update on social.bot_settings
  for each row execute function private.touch_updated_at();
alter table social.bot_settings enable row level security;
revoke all on table social.bot_settings from public, anon, authenticated, service_role;
grant select on table social.bot_settings to authenticated;
grant select, insert, update, delete on table social.bot_settings to service_role;
create policy "Members see the bot settings of their workspaces" on social.bot_settings
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.account_sync (
  account_id uuid primary key,
  workspace_id uuid not null,
  sync_status text not null default 'pending',
  sync_frequency_minutes integer not null default 60,
  activity_classification text not null default 'normal',
  last_sync_started_at timestamptz,
  last_sync_completed_at timestamptz,
  next_sync_at timestamptz not null default private.now(),
  posts_synced_count integer not null default 0,
  last_post_id text,
  last_post_at timestamptz,
  api_calls_this_hour integer not null default 0,
  hour_window_start timestamptz not null default private.now(),
  consecutive_errors integer not null default 0,
  last_error text,
  last_error_at timestamptz,
  job_id bigint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint account_sync_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint account_sync_status_known check (sync_status in ('pending', 'running', 'completed', 'failed')),
  constraint account_sync_activity_known check (activity_classification in ('high', 'normal', 'low', 'dormant')),
  constraint account_sync_frequency_in_range check (sync_frequency_minutes between 5 and 10080),
  constraint account_sync_counts_not_negative
    check (posts_synced_count >= 0 and api_calls_this_hour >= 0 and consecutive_errors >= 0),
  constraint account_sync_failed_says_why check (sync_status <> 'failed' or last_error is not null)
);
comment on table social.account_sync is 'How the posts of an account are read: when, how often, how it went.';
comment on column social.account_sync.activity_classification is
  'By how often the account posts: high is read every 15 minutes, normal hourly, low every 6 hours, dormant daily.';
comment on column social.account_sync.posts_synced_count is 'Posts read by the last sync that ended well.';
create index account_sync_workspace_id on social.account_sync (workspace_id, account_id);
create index account_sync_next on social.account_sync (next_sync_at) where sync_status <> 'running';
create trigger touch_account_sync before update on social.account_sync
  for each row execute function private.touch_updated_at();
alter table social.account_sync enable row level security;
revoke all on table social.account_sync from public, anon, authenticated, service_role;
grant select on table social.account_sync to authenticated;
grant select, insert, update, delete on table social.account_sync to service_role;
create policy "Members see the syncs of their workspaces' accounts" on social.account_sync
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- The queue holds all accounts to the rules of ops.limits (sliding windows); here a brand may stay below them.
create table social.send_limits (
  account_id uuid primary key,
  workspace_id uuid not null,
  hourly_limit integer not null default 200,
  daily_limit integer not null default 1000,
  last_message_at timestamptz,
  reset_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint send_limits_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint send_limits_in_range check (hourly_limit between 1 and 200 and daily_limit between 1 and 1000)
);
comment on table social.send_limits is
  'How many messages an account may send in any hour and any day; what is beyond waits in the queue.';
comment on column social.send_limits.reset_at is
  'When sending goes on, after a limit of the account or of the platform was reached.';
create index send_limits_workspace_id on social.send_limits (workspace_id, account_id);
create trigger touch_send_limits before update on social.send_limits
  for each row execute function private.touch_updated_at();
alter table social.send_limits enable row level security;
revoke all on table social.send_limits from public, anon, authenticated, service_role;
grant select on table social.send_limits to authenticated;
grant select, insert, update, delete on table social.send_limits to service_role;
create policy "Members see the send limits of their workspaces' accounts" on social.send_limits
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.account_health (
  account_id uuid primary key,
  workspace_id uuid not null,
  health_status text not null default 'healthy',
  token_valid boolean not null default true,
  last_success_at timestamptz,
  last_failure_at timestamptz,
  consecutive_failures integer not null default 0,
  error_types jsonb not null default '{}',
  webhook_delivery_rate numeric(5, 2) not null default 100.00,
  avg_response_time_ms integer,
  counted_on date not null default (private.now() at time zone 'UTC')::date,
  messages_processed_today integer not null default 0,
  messages_failed_today integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint account_health_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint account_health_status_known check (health_status in ('healthy', 'degraded', 'unhealthy')),
  constraint account_health_rate_is_percent check (webhook_delivery_rate between 0 and 100),
  constraint account_health_counts_not_negative check (consecutive_failures >= 0 and messages_processed_today >= 0
    and messages_failed_today >= 0 and avg_response_time_ms >= 0),
  constraint account_health_errors_are_object check (jsonb_typeof(error_types) = 'object')
);
comment on table social.account_health is
  'How well an account works: its token, its calls, its webhooks, its messages.';
comment on column social.account_health.error_types is 'How often each fault came, such as {"throttled": 3}.';
comment on column social.account_health.webhook_delivery_rate is
  'Percent of the last day''s webhooks of the account that could be worked on.';
comment on column social.account_health.avg_response_time_ms is
  'Of calls that succeeded: a moving average in which a new call counts a tenth.';
comment on column social.account_health.counted_on is 'The day in UTC that the two counts of today are of.';
create index account_health_workspace_id on social.account_health (workspace_id, account_id);
create index account_health_ill on social.account_health (health_status) where health_status <> 'healthy';
create trigger touch_account_health before update on social.account_health
  for each row execute function private.touch_updated_at();
alter table social.account_health enable row level security;
revoke all on table social.account_health from public, anon, authenticated, service_role;
grant select on table social.account_health to authenticated;
grant select, insert, update, delete on table social.account_health to service_role;
create policy "Members see the health of their workspaces' accounts" on social.account_health
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- With its owner's rights: connecting is done by the service, and by tests and seeds as a plain insert.
create function private.begin_social_account(account integrations.connected_accounts) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into social.bot_settings (account_id, workspace_id) values (account.id, account.workspace_id)
  on conflict do nothing;
  insert into social.account_sync (account_id, workspace_id) values (account.id, account.workspace_id)
  on conflict do nothing;
  insert into social.send_limits (account_id, workspace_id) values (account.id, account.workspace_id)
  on conflict do nothing;
  insert into social.account_health (account_id, workspace_id) values (account.id, account.workspace_id)
  on conflict do nothing;
end $$;
comment on function private.begin_social_account(integrations.connected_accounts) is
  'The rows that every connected social account has.';
revoke all on function private.begin_social_account from public, anon, authenticated, service_role;
