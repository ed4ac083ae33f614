-- The messages of conversations, and the try-ons that were made of photos among them.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_message', 'PT404', 'Use the id of a message of one of your workspaces.'),
  ('outside_message_window', 'PT409', 'Wait until the person writes again: 24 hours from then, messages may be sent.');

create table social.messages (
  id uuid primary key default gen_random_uuid(),
  position bigint generated always as identity,
  workspace_id uuid not null,
  connected_account_id uuid not null,
  conversation_id uuid not null,
  direction text not null,
  source text not null,
  purpose text,
  status text not null,
  platform_message_id text,
  sender_platform_id text not null,
  sent_by uuid,
  message_type text not null default 'text',
  message_text text,
  attachments jsonb not null default '[]',
  media_path text,
  reactions jsonb not null default '[]',
  reaction_times jsonb not null default '{}',
  reply_to_message_id text,
  comment_id uuid,
  creation_id uuid,
  key text,
  job_id bigint,
  attempted_at timestamptz,
  sent_at timestamptz,
  read_at timestamptz,
  deleted_at timestamptz,
  error_code text,
  error_message text,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint messages_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint messages_conversation_fkey foreign key (workspace_id, conversation_id)
    references social.conversations (workspace_id, id) on delete cascade,
  constraint messages_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint messages_sent_by_fkey foreign key (sent_by) references identity.profiles (id) on delete set null,
  constraint messages_comment_fkey foreign key (workspace_id, comment_id)
    references social.comments (workspace_id, id) on delete set null (comment_id),
  constraint messages_creation_id_fkey foreign key (creation_id) references studio.creations (id) on delete set null,
  constraint messages_direction_known check (direction in ('inbound', 'outbound')),
  constraint messages_source_known check (source in ('person', 'bot', 'member', 'app')),
  constraint messages_source_of_direction check ((direction = 'inbound') = (source = 'person')),
  constraint messages_purpose_of_bot check ((source = 'bot') = (purpose is not null)),
  constraint messages_status_known check (status in ('received', 'queued', 'sending', 'sent', 'failed', 'cancelled')),
  constraint messages_received_are_inbound check ((direction = 'inbound') = (status = 'received')),
  constraint messages_sent_says_when check ((status in ('received', 'sent')) = (sent_at is not null)),
  constraint messages_named_by_platform check (status not in ('received', 'sent') or platform_message_id is not null),
  constraint messages_failed_says_why check ((status in ('failed', 'cancelled')) = (error_code is not null)),
  constraint messages_type_known check (message_type in ('text', 'image', 'video', 'audio', 'file', 'share',
    'story_mention', 'story_reply', 'postback', 'unsupported')),
  constraint messages_text_length check (length(message_text) <= 10000),
  constraint messages_key_length check (length(key) between 1 and 255),
  constraint messages_lists check (jsonb_typeof(attachments) = 'array' and jsonb_typeof(reactions) = 'array'
    and jsonb_typeof(reaction_times) = 'object')
);
comment on table social.messages is
  'A message of a conversation: received, or queued, on its way, sent or failed; one is on its way at a time.';
comment on column social.messages.created_at is
  'When it was written: by the platform''s clock when received, when it was queued otherwise.';
comment on column social.messages.position is 'The order of writing: lists go by created_at and position.';
comment on column social.messages.source is
  'person; bot; member (sent_by, through Backlot); app (the account''s people, in Instagram itself).';
comment on column social.messages.purpose is 'Why the bot said it: private_reply, photo_request, result ...';
comment on column social.messages.attachments is '[{"type": "image", "url": "..."}]; addresses at the platform end.';
comment on column social.messages.media_path is
  'The picture: in the bucket studio-uploads, or studio-results where creation_id is set.';
comment on column social.messages.reactions is
  '[{"emoji": "...", "actor_id": "...", "created_at": "..."}], one an actor.';
comment on column social.messages.reaction_times is
  'When each actor last reacted or took it back, in milliseconds: what comes late changes nothing.';
comment on column social.messages.attempted_at is
  'When it was first handed to the platform: without an answer, it may have arrived.';
create unique index messages_platform_id on social.messages (conversation_id, platform_message_id)
  where platform_message_id is not null;
-- The only index that begins with a conversation: beside one of workspace and conversation, row security would have
-- whole conversations read and sorted for a page, because both conditions together are taken to find next to nothing.
create index messages_page on social.messages (conversation_id, created_at desc, position desc);
create unique index messages_one_on_its_way on social.messages (conversation_id) where status = 'sending';
create index messages_waiting on social.messages (conversation_id, position) where status = 'queued';
create unique index messages_one_reply_a_comment on social.messages (comment_id) where comment_id is not null;
create unique index messages_key on social.messages (conversation_id, key) where key is not null;
create index messages_workspace_id on social.messages (workspace_id, created_at desc);
create index messages_sent on social.messages (connected_account_id, sent_at desc);
create index messages_comment on social.messages (workspace_id, comment_id) where comment_id is not null;
create index messages_sent_by on social.messages (sent_by);
create index messages_creation_id on social.messages (creation_id);
create index messages_unread on social.messages (conversation_id)
  where direction = 'inbound' and read_at is null;
create trigger touch_messages before update on social.messages
  for each row execute function private.touch_updated_at();
alter table social.messages enable row level security;
revoke all on table social.messages from public, anon, authenticated, service_role;
grant select on table social.messages to authenticated;
grant select, insert, update, delete on table social.messages to service_role;
create policy "Members see the messages of their workspaces" on social.messages
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.tryons (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  conversation_id uuid not null,
  message_id uuid not null,
  post_id uuid,
  binding_id uuid,
  garment_id uuid,
  source_url text not null,
  photo_path text,
  creation_id uuid,
  status text not null default 'photo',
  error_code text,
  error_message text,
  created_at timestamptz not null default private.now(),
  completed_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint tryons_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint tryons_conversation_fkey foreign key (workspace_id, conversation_id)
    references social.conversations (workspace_id, id) on delete cascade,
  constraint tryons_message_id_fkey foreign key (message_id) references social.messages (id) on delete cascade,
  constraint tryons_post_fkey foreign key (workspace_id, post_id)
    references social.posts (workspace_id, id) on delete set null (post_id),
  constraint tryons_binding_id_fkey foreign key (binding_id)
    references social.post_garment_bindings (id) on delete set null,
  constraint tryons_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete set null,
  constraint tryons_creation_id_fkey foreign key (creation_id) references studio.creations (id) on delete set null,
  constraint tryons_once unique (message_id),
  constraint tryons_status_known
    check (status in ('photo', 'processing', 'completed', 'failed', 'refused', 'rejected')),
  constraint tryons_ended_has_time
    check ((status in ('completed', 'failed', 'refused', 'rejected')) = (completed_at is not null)),
  constraint tryons_failure_says_why check ((status in ('failed', 'refused', 'rejected')) = (error_code is not null)),
  constraint tryons_processing_has_photo check (status not in ('processing', 'completed') or photo_path is not null)
);
comment on table social.tryons is 'A photo that somebody sent to the bot, and the try-on that was made of it.';
comment on column social.tryons.status is
  'photo: being fetched; processing; completed; failed; refused (no credits and the like); rejected (a bad photo).';
create unique index tryons_one_at_a_time on social.tryons (conversation_id) where status in ('photo', 'processing');
create index tryons_workspace_id on social.tryons (workspace_id, created_at desc, id desc);
create index tryons_conversation on social.tryons (workspace_id, conversation_id, created_at desc);
create index tryons_post on social.tryons (workspace_id, post_id);
create index tryons_binding_id on social.tryons (binding_id);
create index tryons_garment_id on social.tryons (garment_id);
create unique index tryons_creation_id on social.tryons (creation_id);
create trigger touch_tryons before update on social.tryons for each row execute function private.touch_updated_at();
alter table social.tryons enable row level security;
revoke all on table social.tryons from public, anon, authenticated, service_role;
grant select on table social.tryons to authenticated;
grant select, insert, update, delete on table social.tryons to service_role;
create policy "Members see the bot's try-ons of their workspaces" on social.tryons
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
