-- What the edge function `tryon` asks, as the service: may this request come in, and what it is for. Each of the
-- first two runs in a transaction of its own, so that whatever fails after them stays counted.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_photo', 'PT404', 'Send the photo anew: it is kept for hours only.'),
  ('unknown_vr_garment', 'PT404', 'Use the id of a garment that GET /tryon/shop lists.'),
  ('unknown_vr_tryon', 'PT404', 'Use the id that POST /tryon/tryons gave.'),
  ('shop_out_of_credits', 'PT402', 'Tell the shop: visitors can try on again when it has topped up.');

-- Two keys of the same day never tell an address; of another day they are different ones. IPv6 goes by its /64, which
-- one household has to itself. What is no address shares one bucket.
create function private.address_bucket(address text) returns text
language sql stable
set search_path = ''
as $$
  select coalesce((
    select encode(sha256(s.salt || convert_to(
      case family(a.ip) when 6 then network(set_masklen(a.ip, 64))::text else host(a.ip) end
        || (private.now() at time zone 'utc')::date, 'UTF8')), 'hex')
    from (select btrim(address)::inet as ip where pg_input_is_valid(btrim(address), 'inet')) a
    cross join private.hash_salts s where s.name = 'address'), 'nowhere')
$$;
comment on function private.address_bucket(text) is 'Keyed hash of an internet address that changes every day (UTC).';
revoke all on function private.address_bucket from public, anon, authenticated, service_role;

-- Counts a request by where it comes from, before anything else is looked at. Error: rate_limited.
create function studio.count_vr_address(address text) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_seconds integer := private.take_from_limits('vr:' || private.address_bucket(address), '{240, 5000}', '{60, 86400}');
begin
  if v_seconds is not null then
    perform private.fail('rate_limited', 'Too many requests came from this address.',
      jsonb_build_object('limit', 'address', 'retry_after', v_seconds));
  end if;
end $$;
comment on function studio.count_vr_address(text) is
  'For the service: counts a request of a visitor by internet address, or refuses it.';
revoke all on function studio.count_vr_address from public, anon, authenticated, service_role;
grant execute on function studio.count_vr_address to service_role;

create type studio.vr_entry as (token_id uuid, shop_id uuid, workspace_id uuid);
comment on type studio.vr_entry is 'Whose visitor a request is of.';

-- The token's row is locked while its limits are counted: they hold to the unit however many come at once. Looking how
-- far a try-on is counts for the visitor's address alone: else one visitor who waits would use up the shop's minute.
-- Errors: invalid_vr_token, vr_shop_closed, origin_not_allowed, rate_limited.
create function studio.enter_vr_shop(token text, origin text default null, is_counted boolean default true)
returns studio.vr_entry
language plpgsql security definer
set search_path = ''
as $$
declare
  v_token studio.vr_shop_tokens;
  v_shop studio.vr_shops;
  v_seconds integer;
begin
  perform from studio.vr_shop_tokens t where is_counted and t.token_hash = private.token_hash(token) for no key update;
  select * into v_token from studio.vr_shop_tokens t where t.token_hash = private.token_hash(token);
  if v_token.id is null or v_token.revoked_at is not null or v_token.expires_at <= private.now()
    or exists (select from identity.profiles p where p.id = v_token.created_by and p.status = 'suspended') then
    perform private.fail('invalid_vr_token', 'The token is unknown, revoked or expired.');
  end if;
  select s.* into v_shop from studio.vr_shops s join identity.workspaces w on w.id = s.workspace_id
  where s.id = v_token.shop_id and s.is_active and w.deleted_at is null;
  if not found then
    perform private.fail('vr_shop_closed', 'The shop is closed.');
  elsif origin is not null and cardinality(v_shop.allowed_origins) > 0
    and lower(origin) <> all (v_shop.allowed_origins) then
    perform private.fail('origin_not_allowed', 'This page may not act for visitors of the shop.',
      jsonb_build_object('origin', left(origin, 300)));
  end if;
  if not is_counted then
    return (v_token.id, v_token.shop_id, v_token.workspace_id)::studio.vr_entry;
  end if;
  v_seconds := private.take_from_limits('vrt:' || v_token.id, array[v_token.rate_limit_per_minute,
    v_token.rate_limit_per_hour, v_token.rate_limit_per_day], '{60, 3600, 86400}');
  if v_seconds is not null then
    perform private.fail('rate_limited', 'The shop has as many visitors as its token admits.',
      jsonb_build_object('limit', 'token', 'retry_after', v_seconds));
  end if;
  update studio.vr_shop_tokens t set total_uses = t.total_uses + 1, last_used_at = private.now()
  where t.id = v_token.id;
  insert into studio.vr_token_usage as u (token_id, day, workspace_id, uses)
  values (v_token.id, (private.now() at time zone 'utc')::date, v_token.workspace_id, 1)
  on conflict on constraint vr_token_usage_pkey do update set uses = u.uses + 1;
  return (v_token.id, v_token.shop_id, v_token.workspace_id)::studio.vr_entry;
end $$;
comment on function studio.enter_vr_shop(text, text, boolean) is
  'For the service: lets the bearer of a shop''s token in, mostly counting the use, or says why not.';
revoke all on function studio.enter_vr_shop from public, anon, authenticated, service_role;
grant execute on function studio.enter_vr_shop to service_role;

-- Counts what costs by where it comes from; a request that fails later in its transaction is not counted here.
-- Error: rate_limited.
create function private.count_vr_visit(what text, shop studio.vr_shops, address text) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_seconds integer := private.take_from_limits(concat_ws(':', 'vr', what, shop.id, private.address_bucket(address)),
    array[shop.tryons_per_address_per_hour], '{3600}');
begin
  if v_seconds is not null then
    perform private.fail('rate_limited', 'Enough has been tried on from this address for now.',
      jsonb_build_object('limit', what, 'retry_after', v_seconds));
  end if;
end $$;
comment on function private.count_vr_visit is 'Counts a photo or try-on by internet address, or refuses it.';
revoke all on function private.count_vr_visit from public, anon, authenticated, service_role;
grant execute on function private.count_vr_visit to service_role;

-- The row comes before the file, so that no file is without a row that says when it goes. Error: rate_limited.
create function studio.begin_vr_photo(token_id uuid, mime_type text, size_bytes integer, address text default null)
returns studio.vr_photos
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_shop studio.vr_shops;
  v_id uuid := gen_random_uuid();
  v_photo studio.vr_photos;
begin
  select s.* into v_shop from studio.vr_shops s join studio.vr_shop_tokens t on t.shop_id = s.id where t.id = token_id;
  if not found then
    perform private.fail('invalid_vr_token', 'The token is gone.');
  end if;
  perform private.count_vr_visit('photo', v_shop, address);
  insert into studio.vr_photos as p (id, workspace_id, shop_id, token_id, storage_path, mime_type, size_bytes,
    expires_at)
  values (v_id, v_shop.workspace_id, v_shop.id, token_id, format('%s/visitors/%s/%s.%s', v_shop.workspace_id, v_shop.id,
      v_id, case mime_type when 'image/jpeg' then 'jpg' else split_part(mime_type, '/', 2) end),
    mime_type, size_bytes, private.now() + make_interval(hours => v_shop.retention_hours))
  returning p.* into v_photo;
  return v_photo;
end $$;
comment on function studio.begin_vr_photo is 'For the service: where a visitor''s photo goes, and when it is deleted.';
revoke all on function studio.begin_vr_photo from public, anon, authenticated, service_role;
grant execute on function studio.begin_vr_photo to service_role;

-- The creation of a try-on. What the workspace lacks is said without its amounts, and what is wrong with its things
-- without its paths: a visitor hears it.
create function private.create_vr_creation(tryon studio.vr_tryons, photo studio.vr_photos, garment studio.vr_garments,
  quality text) returns studio.creations
language plpgsql
set search_path = ''
as $$
begin
  return studio.request_creation(workspace_id => tryon.workspace_id, creation_type => 'tryon',
    garment_id => garment.garment_id, input_path => photo.storage_path, quality => create_vr_creation.quality,
    category => garment.category, num_outputs => 1, settings => jsonb_build_object('vr_tryon_id', tryon.id));
exception
  when sqlstate 'PT402' or sqlstate 'PT403' then
    perform private.fail('shop_out_of_credits', 'The shop cannot offer try-ons at the moment.');
  when sqlstate 'PT404' or sqlstate 'PT415' or sqlstate 'PT422' then
    if sqlerrm like 'creation_type_unavailable: %' then
      raise;
    end if;
    perform private.fail(case when sqlerrm like '%' || photo.storage_path || '%' then 'unknown_photo'
      else 'unknown_vr_garment' end, 'What is to be tried on, or by whom, cannot be used any more.');
end $$;
comment on function private.create_vr_creation is 'Requests the creation of a visitor''s try-on.';
revoke all on function private.create_vr_creation from public, anon, authenticated, service_role;
grant execute on function private.create_vr_creation to service_role;

-- With a key, a repeat for the same photo answers the first. Errors: unknown_photo, unknown_vr_garment, key_reused,
-- rate_limited, shop_out_of_credits, creation_type_unavailable.
create function studio.request_vr_tryon(token_id uuid, photo_id uuid, garment_id uuid, address text default null,
  key text default null) returns studio.vr_tryons
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_photo studio.vr_photos;
  v_garment studio.vr_garments;
  v_shop studio.vr_shops;
  v_tryon studio.vr_tryons;
  v_creation studio.creations;
begin
  select p.* into v_photo from studio.vr_photos p join studio.vr_shop_tokens t on t.shop_id = p.shop_id
  where p.id = photo_id and t.id = token_id and p.expires_at > private.now() and p.removal_job_id is null;
  if not found then
    perform private.fail('unknown_photo', 'There is no such photo, or its time is over.');
  end if;
  select * into v_garment from studio.vr_garments g
  where g.id = garment_id and g.shop_id = v_photo.shop_id and g.is_active;
  if not found then
    perform private.fail('unknown_vr_garment', 'The shop has no such garment.');
  end if;
  select * into v_shop from studio.vr_shops s where s.id = v_photo.shop_id;
  insert into studio.vr_tryons as t (workspace_id, shop_id, token_id, garment_id, photo_id, key, created_at, expires_at)
  values (v_shop.workspace_id, v_shop.id, token_id, garment_id, photo_id, key, private.now(),
    private.now() + make_interval(hours => v_shop.retention_hours))
  on conflict on constraint vr_tryons_key do nothing
  returning t.* into v_tryon;
  if not found then
    select * into v_tryon from studio.vr_tryons t where t.photo_id = v_photo.id and t.key = request_vr_tryon.key;
    if v_tryon.garment_id <> v_garment.id then
      perform private.fail('key_reused', 'This key has been used for another garment.',
        jsonb_build_object('key', key, 'tryon_id', v_tryon.id));
    end if;
    return v_tryon;
  end if;
  perform private.count_vr_visit('tryon', v_shop, address);
  v_creation := private.create_vr_creation(v_tryon, v_photo, v_garment, v_shop.quality);
  update studio.vr_tryons t set creation_id = v_creation.id where t.id = v_tryon.id
  returning t.* into v_tryon;
  -- the token's figures come last: its lock is never held while the wallet's is waited for
  insert into studio.vr_token_usage as u (token_id, day, workspace_id, tryons)
  values (token_id, (private.now() at time zone 'utc')::date, v_shop.workspace_id, 1)
  on conflict on constraint vr_token_usage_pkey do update set tryons = u.tryons + 1;
  return v_tryon;
end $$;
comment on function studio.request_vr_tryon is
  'For the service: a visitor''s try-on, charged to the shop''s workspace.';
revoke all on function studio.request_vr_tryon from public, anon, authenticated, service_role;
grant execute on function studio.request_vr_tryon to service_role;

-- Error: unknown_vr_tryon.
create function studio.read_vr_tryon(token_id uuid, tryon_id uuid) returns studio.vr_tryons
language plpgsql stable
set search_path = ''
as $$
declare
  v_tryon studio.vr_tryons;
begin
  select y.* into v_tryon from studio.vr_tryons y join studio.vr_shop_tokens t on t.shop_id = y.shop_id
  where y.id = tryon_id and t.id = read_vr_tryon.token_id and y.expires_at > private.now();
  if not found then
    perform private.fail('unknown_vr_tryon', 'There is no such try-on, or its time is over.');
  end if;
  return v_tryon;
end $$;
comment on function studio.read_vr_tryon(uuid, uuid) is 'For the service: a try-on of a visitor of the token''s shop.';
revoke all on function studio.read_vr_tryon from public, anon, authenticated, service_role;
grant execute on function studio.read_vr_tryon to service_role;

-- A visitor who wants the photo gone, and all that was made of it, need not wait. Error: unknown_photo.
create function studio.withdraw_vr_photo(token_id uuid, photo_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  update studio.vr_photos p set expires_at = least(p.expires_at, private.now()) from studio.vr_shop_tokens t
  where p.id = photo_id and t.id = withdraw_vr_photo.token_id and t.shop_id = p.shop_id;
  if not found then
    perform private.fail('unknown_photo', 'There is no such photo.');
  end if;
  update studio.vr_tryons y set expires_at = least(y.expires_at, private.now())
  where y.photo_id = withdraw_vr_photo.photo_id;
end $$;
comment on function studio.withdraw_vr_photo(uuid, uuid) is
  'For the service: ends the time of a visitor''s photo and its try-ons now.';
revoke all on function studio.withdraw_vr_photo from public, anon, authenticated, service_role;
grant execute on function studio.withdraw_vr_photo to service_role;
