-- Who follows whom. Targets live in several schemas, so target_id has no foreign key; identity.follow looks
-- whether a person or organizer exists. Events and sponsors can be followed once their domains are there.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_follow_target', 'PT404', 'Follow a person or an organizer that exists.');

create table identity.follows (
  id uuid primary key default gen_random_uuid(),
  follower_user_id uuid not null,
  target_type text not null,
  target_id uuid not null,
  status text not null default 'accepted',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint follows_follower_user_id_fkey foreign key (follower_user_id)
    references identity.profiles (id) on delete cascade,
  constraint follows_once unique (follower_user_id, target_type, target_id),
  constraint follows_target_type_known check (target_type in ('user', 'event', 'organizer', 'sponsor')),
  constraint follows_status_known check (status in ('pending', 'accepted', 'declined')),
  constraint follows_not_oneself check (target_type <> 'user' or target_id <> follower_user_id)
);
comment on table identity.follows is 'A person follows a person, an event, an organizer or a sponsor.';
create index follows_target_idx on identity.follows (target_id, target_type, status);
create trigger touch_follows before update on identity.follows
  for each row execute function private.touch_updated_at();
alter table identity.follows enable row level security;
revoke all on table identity.follows from public, anon, authenticated, service_role;
grant select, delete on table identity.follows to authenticated;
grant update (status) on table identity.follows to authenticated;
grant select, insert, update, delete on table identity.follows to service_role;

create policy "Followers, and those they follow, see the follow" on identity.follows
  for select to authenticated using (
    follower_user_id = (select auth.uid())
    or (target_type = 'user' and target_id = (select auth.uid()))
    or (target_type = 'organizer' and target_id = any ((select private.workspace_ids('viewer'))::uuid[]))
  );
create policy "People answer who wants to follow them" on identity.follows
  for update to authenticated using (target_type = 'user' and target_id = (select auth.uid()))
  with check (target_type = 'user' and target_id = (select auth.uid()) and status in ('accepted', 'declined'));
create policy "People stop following, or shake off a follower" on identity.follows
  for delete to authenticated using (
    (follower_user_id = (select auth.uid()) and status <> 'declined')
    or (target_type = 'user' and target_id = (select auth.uid()))
  );

-- A private person is asked first. Whoever was declined cannot ask again, because the row stays.
create function private.follow(target_type text, target_id uuid) returns identity.follows
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_status text := 'accepted';
  v_follow identity.follows;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person may follow.');
  elsif follow.target_type = 'user' and follow.target_id <> auth.uid() then
    select case p.privacy_level when 'private' then 'pending' else 'accepted' end into v_status
    from identity.profiles p where p.id = follow.target_id and p.status = 'active';
  elsif follow.target_type = 'organizer' then
    select 'accepted' into v_status from identity.workspaces w
    where w.id = follow.target_id and w.type = 'organizer' and w.deleted_at is null;
  else
    perform private.fail('invalid_argument', 'One follows another person (user) or an organizer.',
      jsonb_build_object('argument', 'target_type', 'value', follow.target_type, 'target_id', follow.target_id));
  end if;
  if v_status is null then
    perform private.fail('unknown_follow_target', format('There is no such %s.', follow.target_type),
      jsonb_build_object('target_type', follow.target_type, 'target_id', follow.target_id));
  end if;
  insert into identity.follows (follower_user_id, target_type, target_id, status)
  values (auth.uid(), follow.target_type, follow.target_id, v_status)
  on conflict on constraint follows_once do nothing;
  select f.* into v_follow from identity.follows f
  where f.follower_user_id = auth.uid() and f.target_type = follow.target_type and f.target_id = follow.target_id;
  return v_follow;
end $$;
comment on function private.follow(text, uuid) is 'Core of identity.follow.';
revoke all on function private.follow from public, anon, authenticated, service_role;
grant execute on function private.follow to authenticated;

create function identity.follow(target_type text, target_id uuid) returns identity.follows
language sql
set search_path = ''
as $$ select private.follow(follow.target_type, follow.target_id) $$;
comment on function identity.follow(text, uuid) is
  'The caller follows a person or an organizer; a private person is asked first, and following twice is one follow.';
revoke all on function identity.follow from public, anon, authenticated, service_role;
grant execute on function identity.follow to authenticated;

-- Follows of a person go with the person; those by the person go by their foreign key.
create function private.drop_followers() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from identity.follows f where f.target_type = 'user' and f.target_id = old.id;
  return null;
end $$;
comment on function private.drop_followers() is 'Trigger: a profile that goes takes its followers along.';
revoke all on function private.drop_followers from public, anon, authenticated, service_role;

create trigger drop_followers after delete on identity.profiles
  for each row execute function private.drop_followers();
