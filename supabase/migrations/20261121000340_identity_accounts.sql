-- What an account of the platform (auth.users) becomes here: a profile, details, settings and a personal
-- workspace, in the transaction of the sign-up. Providers and clients put anything into raw_user_meta_data,
-- and nothing of it may stop a sign-up: what does not fit is cut, cleaned or left out.

-- The metadata as an object: null, arrays and scalars become {}; a string that holds JSON (some auth servers
-- encode twice) is opened first.
create function private.meta_object(meta jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when jsonb_typeof(meta) = 'object' then meta
    when jsonb_typeof(meta) = 'string' and (meta #>> '{}') is json object then (meta #>> '{}')::jsonb
    else '{}'
  end
$$;
comment on function private.meta_object(jsonb) is 'Metadata as a JSON object, whatever arrived.';
revoke all on function private.meta_object from public, anon, authenticated, service_role;

-- The first of the keys that holds text, without control characters, at most `longest` characters long.
create function private.meta_text(meta jsonb, keys text[], longest integer) returns text
language sql immutable
set search_path = ''
as $$
  select cleaned.content
  from unnest(meta_text.keys) with ordinality as k (key, place),
    lateral (
      select btrim(left(btrim(regexp_replace(meta_text.meta ->> k.key, '[\u0001-\u001f\u007f]+', ' ', 'g')), longest))
    ) as cleaned (content)
  where jsonb_typeof(meta_text.meta -> k.key) = 'string' and cleaned.content <> ''
  order by k.place
  limit 1
$$;
comment on function private.meta_text(jsonb, text[], integer) is 'A text out of metadata, cleaned and cut, or null.';
revoke all on function private.meta_text from public, anon, authenticated, service_role;

create function private.username_of(content text) returns text
language sql immutable
set search_path = ''
as $$
  select case when char_length(name) >= 2 then name end
  from (select btrim(left(btrim(regexp_replace(lower(regexp_replace(normalize(username_of.content, NFKD),
    '[\u0300-\u036f]', '', 'g')), '[^a-z0-9_.-]+', '-', 'g'), '_.-'), 32), '_.-')) as cleaned (name)
$$;
comment on function private.username_of(text) is 'The username that a text suggests, or null; may be taken.';
revoke all on function private.username_of from public, anon, authenticated, service_role;

-- Eight of 32 unmistakable characters, each from five bits of a random uuid's last six bytes.
create function private.new_referral_code() returns text
language sql volatile
set search_path = ''
as $$
  select string_agg(substr('23456789ABCDEFGHJKLMNPQRSTUVWXYZ', 1 + get_byte(noise, i) % 32, 1), '')
  from (select uuid_send(gen_random_uuid())) as random (noise), generate_series(8, 15) as i
$$;
comment on function private.new_referral_code() is 'A code such as K7Q2M9XA to hand to friends.';
revoke all on function private.new_referral_code from public, anon, authenticated, service_role;
grant execute on function private.new_referral_code to service_role;

create function private.insert_profile(user_id uuid, username text, display_name text, avatar_url text) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_username text := private.username_of(insert_profile.username);
  v_attempt integer := 1;
begin
  loop
    insert into identity.profiles (id, username, display_name, avatar_url)
    values (insert_profile.user_id, v_username, insert_profile.display_name, insert_profile.avatar_url)
    on conflict on constraint profiles_username_key do nothing;
    exit when found;
    v_attempt := v_attempt + 1;
    v_username := private.username_of(insert_profile.username) || case when v_attempt <= 5 then v_attempt::text
      else left(replace(gen_random_uuid()::text, '-', ''), 8) end;
  end loop;
  return v_username;
end $$;
comment on function private.insert_profile(uuid, text, text, text) is
  'A profile under the wished username or a free one like it.';
revoke all on function private.insert_profile from public, anon, authenticated, service_role;

create function private.insert_personal_details(account auth.users, meta jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_consent timestamptz := private.now();
begin
  loop
    insert into identity.personal_details (
      user_id, email, phone, full_name, first_name, last_name, registration_method, referral_code, referred_by,
      terms_accepted_at, privacy_accepted_at
    ) values (
      account.id, left(account.email, 320), left(nullif(to_jsonb(account) ->> 'phone', ''), 40),
      private.meta_text(meta, array['full_name', 'name'], 200),
      private.meta_text(meta, array['first_name', 'given_name'], 100),
      private.meta_text(meta, array['last_name', 'family_name'], 100),
      coalesce(substring(lower(private.meta_object(account.raw_app_meta_data) ->> 'provider')
        from '^[a-z][a-z0-9_:-]{0,39}$'), 'email'),
      private.new_referral_code(),
      (select d.user_id from identity.personal_details d
        where d.referral_code = upper(private.meta_text(meta, array['referral_code'], 8))),
      case when meta ->> 'terms_accepted' = 'true' then v_consent end,
      case when meta ->> 'privacy_accepted' = 'true' then v_consent end
    ) on conflict on constraint personal_details_referral_code_key do nothing;
    exit when found;
  end loop;
end $$;
comment on function private.insert_personal_details(auth.users, jsonb) is
  'The private half of a person, with a new referral code.';
revoke all on function private.insert_personal_details from public, anon, authenticated, service_role;

create function private.welcome_user() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_meta jsonb := private.meta_object(new.raw_user_meta_data);
  v_name text := coalesce(
    private.meta_text(v_meta, array['display_name', 'full_name', 'name', 'user_name', 'username'], 100), 'New member');
  v_username text;
begin
  -- The e-mail address gives no name here: names are public, the address is not.
  v_username := private.insert_profile(new.id,
    private.meta_text(v_meta, array['username', 'user_name', 'preferred_username'], 60), v_name,
    private.meta_text(v_meta, array['avatar_url', 'picture'], 2048));
  perform private.insert_personal_details(new, v_meta);
  insert into identity.user_settings (user_id, language, timezone)
  values (new.id,
    coalesce(substring(private.meta_text(v_meta, array['language', 'locale'], 35)
      from '^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$'), 'en'),
    private.meta_text(v_meta, array['timezone'], 64));
  perform private.insert_workspace(v_name, coalesce(nullif(private.slug_of(v_username), ''), private.slug_of(v_name)),
    'person', new.id);
  return null;
end $$;
comment on function private.welcome_user() is
  'Trigger: a new account gets profile, details, settings and a personal workspace.';
revoke all on function private.welcome_user from public, anon, authenticated, service_role;

create trigger welcome_user after insert on auth.users
  for each row execute function private.welcome_user();

create function private.follow_account() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update identity.personal_details d
  set email = left(new.email, 320), phone = coalesce(left(nullif(to_jsonb(new) ->> 'phone', ''), 40), d.phone)
  where d.user_id = new.id;
  return null;
end $$;
comment on function private.follow_account() is 'Trigger: contact details follow what the platform has confirmed.';
revoke all on function private.follow_account from public, anon, authenticated, service_role;

create trigger follow_account after update on auth.users for each row
  when (old.email is distinct from new.email or to_jsonb(old) -> 'phone' is distinct from to_jsonb(new) -> 'phone')
  execute function private.follow_account();

-- Before an account goes: where it is the last owner who can act, the highest member (the longest there of those)
-- becomes owner, one who is suspended only where all are; a workspace with nobody left is closed, the personal one
-- always. Its open invitations are withdrawn.
create function private.part_from_user() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace identity.workspaces;
  v_heir uuid;
begin
  for v_workspace in
    select w.* from identity.workspaces w
    where w.deleted_at is null and exists (select from identity.workspace_members m
      where m.workspace_id = w.id and m.user_id = old.id and m.role = 'owner')
    order by w.id for no key update of w
  loop
    continue when v_workspace.type <> 'person' and exists (select from identity.workspace_members m
      where m.workspace_id = v_workspace.id and m.user_id <> old.id and m.role = 'owner'
        and not m.is_suspended);
    v_heir := null;
    if v_workspace.type <> 'person' then
      select m.id into v_heir from identity.workspace_members m
      where m.workspace_id = v_workspace.id and m.user_id <> old.id
        and (m.expires_at is null or m.expires_at > private.now())
      order by m.is_suspended, private.role_rank(m.role) desc, m.joined_at, m.id limit 1;
    end if;
    update identity.workspace_members m set role = 'owner', expires_at = null where m.id = v_heir;
    update identity.workspaces w set deleted_at = private.now() where w.id = v_workspace.id and v_heir is null;
  end loop;
  update identity.workspace_invitations i set status = 'revoked', revoked_at = private.now()
  where i.invited_by = old.id and i.status = 'pending';
  delete from identity.workspace_members m where m.user_id = old.id;
  return old;
end $$;
comment on function private.part_from_user() is 'Trigger: an account that goes leaves no workspace without an owner.';
revoke all on function private.part_from_user from public, anon, authenticated, service_role;

create trigger part_from_user before delete on auth.users
  for each row execute function private.part_from_user();
