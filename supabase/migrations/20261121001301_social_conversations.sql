-- Conversations with people at a platform, and the comments that led to them.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_conversation', 'PT404', 'Use the id of a conversation of one of your workspaces.');

create table social.conversations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  platform text not null default 'instagram',
  platform_user_id text not null,
  platform_username text,
  platform_profile_url text,
  status text not null default 'active',
  category text not null default 'requests',
  is_accepted boolean not null default false,
  stage text not null default 'initial',
  post_id uuid,
  binding_id uuid,
  bot_data jsonb not null default '{}',
  unread_count integer not null default 0,
  message_count integer not null default 0,
  last_message_at timestamptz not null default private.now(),
  last_message_text text,
  last_inbound_at timestamptz,
  window_ends_at timestamptz,
  taken_over_at timestamptz,
  taken_over_until timestamptz,
  taken_over_by uuid,
  opted_out_at timestamptz,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint conversations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint conversations_connected_account_fkey foreign key (workspace_id, connected_account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint conversations_post_fkey foreign key (workspace_id, post_id)
    references social.posts (workspace_id, id) on delete set null (post_id),
  constraint conversations_binding_id_fkey foreign key (binding_id)
    references social.post_garment_bindings (id) on delete set null,
  constraint conversations_taken_over_by_fkey foreign key (taken_over_by)
    references identity.profiles (id) on delete set null,
  constraint conversations_in_workspace unique (workspace_id, id),
  constraint conversations_once unique (connected_account_id, platform_user_id),
  constraint conversations_platform_known
    check (platform in ('instagram', 'messenger', 'whatsapp', 'tiktok', 'telegram', 'twitter')),
  constraint conversations_platform_user_id_length check (length(platform_user_id) between 1 and 255),
  constraint conversations_status_known check (status in ('active', 'closed')),
  constraint conversations_category_known check (category in ('primary', 'general', 'requests', 'hidden')),
  constraint conversations_requests_are_not_accepted check (category <> 'requests' or not is_accepted),
  constraint conversations_stage_known
    check (stage in ('initial', 'awaiting_reply', 'awaiting_photo', 'processing', 'completed')),
  constraint conversations_counts_not_negative check (unread_count >= 0 and message_count >= 0),
  constraint conversations_window_of_inbound check ((last_inbound_at is null) = (window_ends_at is null)),
  constraint conversations_takeover_whole check (taken_over_at is not null
    or (taken_over_until is null and taken_over_by is null)),
  constraint conversations_bot_data_is_object check (jsonb_typeof(bot_data) = 'object')
);
comment on table social.conversations is
  'A conversation of one connected account with one person at the platform: inbox entry and state of the bot.';
comment on column social.conversations.category is
  'Inbox tab: primary, general, requests (people who are new) or hidden (spam).';
comment on column social.conversations.is_accepted is 'Moved out of the requests by a member.';
comment on column social.conversations.stage is
  'Where the bot stands: awaiting_reply (its private reply is unanswered), awaiting_photo, processing, completed.';
comment on column social.conversations.binding_id is 'The garment that is being talked about; post_id is its post.';
comment on column social.conversations.bot_data is
  'What the bot remembers, such as when it said that the shop is closed.';
comment on column social.conversations.window_ends_at is
  'Until when messages may be sent: 24 hours after the person''s last one. Null: the person never wrote.';
comment on column social.conversations.taken_over_at is
  'A member talks; the bot is silent until taken_over_until, or until it is handed back where that is null.';
comment on column social.conversations.opted_out_at is 'The person asked the bot to stop; members may still answer.';
create index conversations_inbox on social.conversations (workspace_id, last_message_at desc, id desc);
create index conversations_inbox_category
  on social.conversations (workspace_id, category, last_message_at desc, id desc);
create index conversations_account_inbox
  on social.conversations (connected_account_id, category, last_message_at desc, id desc);
create index conversations_unread on social.conversations (workspace_id, last_message_at desc, id desc)
  where unread_count > 0;
create index conversations_connected_account on social.conversations (workspace_id, connected_account_id);
create index conversations_post on social.conversations (workspace_id, post_id);
create index conversations_binding_id on social.conversations (binding_id);
create index conversations_taken_over_by on social.conversations (taken_over_by);
create index conversations_takeover_ends on social.conversations (taken_over_until)
  where taken_over_until is not null;
create trigger touch_conversations before update on social.conversations
  for each row execute function private.touch_updated_at();
alter table social.conversations enable row level security;
revoke all on table social.conversations from public, anon, authenticated, service_role;
grant select on table social.conversations to authenticated;
grant select, insert, update, delete on table social.conversations to service_role;
create policy "Members see the conversations of their workspaces" on social.conversations
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.comments (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  post_id uuid,
  binding_id uuid,
  conversation_id uuid,
  platform_comment_id text not null,
  platform_post_id text,
  parent_comment_id text,
  platform_user_id text not null,
  platform_username text,
  comment_text text,
  trigger_word text,
  reply_status text not null default 'none',
  reply_reason text,
  reply_at timestamptz,
  commented_at timestamptz not null,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint comments_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint comments_connected_account_fkey foreign key (workspace_id, connected_account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint comments_post_fkey foreign key (workspace_id, post_id)
    references social.posts (workspace_id, id) on delete cascade,
  constraint comments_binding_id_fkey foreign key (binding_id)
    references social.post_garment_bindings (id) on delete set null,
  constraint comments_conversation_fkey foreign key (workspace_id, conversation_id)
    references social.conversations (workspace_id, id) on delete set null (conversation_id),
  constraint comments_in_workspace unique (workspace_id, id),
  constraint comments_once unique (connected_account_id, platform_comment_id),
  constraint comments_reply_status_known check (reply_status in ('none', 'pending', 'sent', 'failed', 'skipped')),
  constraint comments_reply_reason_known check ((reply_status in ('failed', 'skipped')) = (reply_reason is not null)),
  constraint comments_reply_needs_word check (reply_status = 'none' or trigger_word is not null)
);
comment on table social.comments is
  'A comment of somebody under a post, and what became of the one private reply it may get.';
comment on column social.comments.reply_status is
  'none: no trigger word of a bound post; pending, sent, failed; skipped: reply_reason says why, such as opted_out.';
comment on column social.comments.reply_at is 'When the private reply is or was due: outside business hours it waits.';
create index comments_workspace_id on social.comments (workspace_id, commented_at desc, id desc);
create index comments_connected_account on social.comments (workspace_id, connected_account_id);
create index comments_post on social.comments (workspace_id, post_id, commented_at desc);
create index comments_binding_id on social.comments (binding_id);
create index comments_conversation on social.comments (workspace_id, conversation_id);
create trigger touch_comments before update on social.comments
  for each row execute function private.touch_updated_at();
alter table social.comments enable row level security;
revoke all on table social.comments from public, anon, authenticated, service_role;
grant select on table social.comments to authenticated;
grant select, insert, update, delete on table social.comments to service_role;
create policy "Members see the comments of their workspaces" on social.comments
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
