-- Notifications. Two apps had them: one said in `type` what happened, the other how it went (and in
-- `event_type` what happened). Here `type` is how it went and `event_type` what happened.

create schema if not exists messaging;
comment on schema messaging is 'Notifications; later mail, direct messages, contact forms and feedback.';
revoke all on schema messaging from public;
grant usage on schema messaging to anon, authenticated, service_role;

create table messaging.notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  workspace_id uuid,
  type text not null default 'info',
  event_type text,
  title text not null,
  description text,
  action_url text,
  metadata jsonb not null default '{}',
  key text,
  read_at timestamptz,
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint notifications_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint notifications_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint notifications_type_known check (type in ('success', 'error', 'warning', 'info')),
  constraint notifications_event_type_shape check (event_type ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$'),
  constraint notifications_title_length check (char_length(title) between 1 and 200),
  constraint notifications_description_length check (char_length(description) <= 4000),
  constraint notifications_action_url_length check (char_length(action_url) <= 2048),
  constraint notifications_key_length check (char_length(key) between 1 and 200),
  constraint notifications_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table messaging.notifications is 'What a person is told in the apps, until they read or archive it.';
comment on column messaging.notifications.event_type is 'What happened, by domain: studio.creation_completed.';
comment on column messaging.notifications.key is 'Names the occasion: the same person is told of it once.';
create unique index notifications_key_once on messaging.notifications (user_id, key) where key is not null;
create index notifications_dashboard_idx on messaging.notifications (user_id, workspace_id, created_at desc)
  where read_at is null and archived_at is null;
create index notifications_user_id_idx on messaging.notifications (user_id, created_at desc);
create index notifications_workspace_id_idx on messaging.notifications (workspace_id);
create index notifications_event_type_idx on messaging.notifications (event_type);
create trigger touch_notifications before update on messaging.notifications
  for each row execute function private.touch_updated_at();
alter table messaging.notifications enable row level security;
revoke all on table messaging.notifications from public, anon, authenticated, service_role;
grant select, delete on table messaging.notifications to authenticated;
grant update (read_at, archived_at) on table messaging.notifications to authenticated;
grant select, insert, update, delete on table messaging.notifications to service_role;

create policy "People read their own notifications" on messaging.notifications
  for select to authenticated using (user_id = (select auth.uid()));
create policy "People mark their own notifications" on messaging.notifications
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "People delete their own notifications" on messaging.notifications
  for delete to authenticated using (user_id = (select auth.uid()));

-- For other domains, inside their transactions: telling someone must never undo what it tells about. So a
-- person who has left is passed over (null), texts are cut to fit, and a known key changes nothing.
create function private.notify_user(
  user_id uuid, workspace_id uuid, type text, title text, description text, action_url text, metadata jsonb,
  key text default null, event_type text default null
) returns uuid
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_id uuid;
begin
  insert into messaging.notifications
    (user_id, workspace_id, type, event_type, title, description, action_url, metadata, key)
  select p.id, notify_user.workspace_id, notify_user.type, notify_user.event_type, left(notify_user.title, 200),
    left(notify_user.description, 4000), notify_user.action_url, coalesce(notify_user.metadata, '{}'), notify_user.key
  from identity.profiles p where p.id = notify_user.user_id
  on conflict (user_id, key) where key is not null do nothing
  returning id into v_id;
  if v_id is null and notify_user.key is not null then
    select n.id into v_id from messaging.notifications n
    where n.user_id = notify_user.user_id and n.key = notify_user.key;
  end if;
  return v_id;
end $$;
comment on function private.notify_user(uuid, uuid, text, text, text, text, jsonb, text, text) is
  'Tells a person something once per key; gives the notification''s id, null when the person has left.';
revoke all on function private.notify_user from public, anon, authenticated, service_role;
grant execute on function private.notify_user to service_role;

create function messaging.mark_notifications_read(ids uuid[] default null) returns integer
language sql
set search_path = ''
as $$
  with marked as (
    update messaging.notifications n set read_at = private.now()
    where n.user_id = (select auth.uid()) and n.read_at is null
      and (mark_notifications_read.ids is null or n.id = any (mark_notifications_read.ids))
    returning 1
  )
  select count(*)::integer from marked
$$;
comment on function messaging.mark_notifications_read(uuid[]) is
  'Marks the caller''s notifications read, all of them without ids, and says how many were unread.';
revoke all on function messaging.mark_notifications_read from public, anon, authenticated, service_role;
grant execute on function messaging.mark_notifications_read to authenticated;
