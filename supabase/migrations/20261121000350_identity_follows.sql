-- Who follows whom. Targets live in several schemas (events and sponsors come with their domains), so
-- target_id has no foreign key; people and organizers are checked when the row is written.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_follow_target', 'PT404', 'Follow a person or an organizer that exists.');

create table identity.follows (
  id uuid primary key default gen_random_uuid(),
  follower_user_id uuid not null default auth.uid(),
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
create index follows_target_idx on identity.follows (target_type, target_id, status);
create trigger touch_follows before update on identity.follows
  for each row execute function private.touch_updated_at();
alter table identity.follows enable row level security;
revoke all on table identity.follows from public, anon, authenticated, service_role;
grant select, delete on table identity.follows to authenticated;
grant insert (target_type, target_id), update (status) on table identity.follows to authenticated;
grant select, insert, update, delete on table identity.follows to service_role;

create policy "Followers, and those they follow, see the follow" on identity.follows
  for select to authenticated using (
    follower_user_id = (select auth.uid())
    or (target_type = 'user' and target_id = (select auth.uid()))
    or (target_type = 'organizer' and target_id = any ((select private.workspace_ids('viewer'))::uuid[]))
  );
create policy "People follow in their own name" on identity.follows
  for insert to authenticated with check (follower_user_id = (select auth.uid()));
create policy "People answer who wants to follow them" on identity.follows
  for update to authenticated using (target_type = 'user' and target_id = (select auth.uid()))
  with check (target_type = 'user' and target_id = (select auth.uid()) and status in ('accepted', 'declined'));
create policy "People stop following, or shake off a follower" on identity.follows
  for delete to authenticated using (
    (follower_user_id = (select auth.uid()) and status <> 'declined')
    or (target_type = 'user' and target_id = (select auth.uid()))
  );

-- A private person is asked first. Whoever was declined cannot ask again, because the row stays.
create function private.check_follow() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_privacy text;
begin
  if new.target_type = 'user' then
    select p.privacy_level into v_privacy from identity.profiles p where p.id = new.target_id and p.status = 'active';
    new.status := case v_privacy when 'private' then 'pending' else 'accepted' end;
  elsif new.target_type = 'organizer' then
    select 'public' into v_privacy from identity.workspaces w
    where w.id = new.target_id and w.type = 'organizer' and w.deleted_at is null;
  end if;
  if v_privacy is null and new.target_type in ('user', 'organizer') then
    perform private.fail('unknown_follow_target', format('There is no such %s.', new.target_type),
      jsonb_build_object('target_type', new.target_type, 'target_id', new.target_id));
  end if;
  return new;
end $$;
comment on function private.check_follow() is 'Trigger: the target exists, and a private person is asked first.';
revoke all on function private.check_follow from public, anon, authenticated, service_role;

create trigger check_follow before insert on identity.follows
  for each row execute function private.check_follow();

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
