-- Tokens of VR shops: shown once, kept as a hash, known by their visible beginning. Apps carry them to their visitors,
-- so they open nothing but the shop's front, within their limits.

insert into private.error_codes (name, sqlstate, hint) values
  ('invalid_vr_token', 'PT401', 'Send a token of the shop that is neither revoked nor expired, as x-shop-token.'),
  ('vr_shop_closed', 'PT403', 'The shop takes no visitors at the moment.'),
  ('origin_not_allowed', 'PT403', 'Add the page''s origin to the shop''s allowed_origins.'),
  ('rate_limited', 'PT429', 'Wait so many seconds as Retry-After says, then send the request again.');

create table studio.vr_shop_tokens (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  shop_id uuid not null,
  name text,
  notes text,
  prefix text not null,
  token_hash bytea not null,
  rate_limit_per_minute integer not null default 30,
  rate_limit_per_hour integer not null default 500,
  rate_limit_per_day integer not null default 2000,
  expires_at timestamptz,
  revoked_at timestamptz,
  total_uses bigint not null default 0,
  total_successful bigint not null default 0,
  total_failed bigint not null default 0,
  last_used_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint vr_shop_tokens_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_shop_tokens_shop_id_fkey foreign key (workspace_id, shop_id)
    references studio.vr_shops (workspace_id, id) on delete cascade,
  constraint vr_shop_tokens_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint vr_shop_tokens_hash_key unique (token_hash),
  constraint vr_shop_tokens_hash_is_sha256 check (octet_length(token_hash) = 32),
  constraint vr_shop_tokens_prefix_shape check (prefix ~ '^vrt_[0-9a-f]{8}$'),
  constraint vr_shop_tokens_texts_lengths check (length(name) between 1 and 100 and length(notes) <= 2000),
  constraint vr_shop_tokens_limits_in_range check (rate_limit_per_minute between 1 and 10000
    and rate_limit_per_hour between 1 and 100000 and rate_limit_per_day between 1 and 1000000),
  constraint vr_shop_tokens_uses_not_negative check (total_uses >= 0 and total_successful >= 0 and total_failed >= 0)
) with (fillfactor = 50);
comment on table studio.vr_shop_tokens is
  'What lets an app act in a VR shop: limits, use so far; only its SHA-256 is stored.';
comment on column studio.vr_shop_tokens.rate_limit_per_minute is 'Requests in any minute; likewise an hour, a day.';
comment on column studio.vr_shop_tokens.total_uses is 'Requests let in; successful and failed are try-ons that ended.';
create index vr_shop_tokens_shop_id on studio.vr_shop_tokens (workspace_id, shop_id, created_at desc);
create index vr_shop_tokens_created_by on studio.vr_shop_tokens (created_by);
create trigger vr_shop_tokens_touch before update of name, notes, rate_limit_per_minute, rate_limit_per_hour,
  rate_limit_per_day, expires_at, revoked_at on studio.vr_shop_tokens
  for each row execute function private.touch_updated_at();
alter table studio.vr_shop_tokens enable row level security;
create policy "Members may see their shops' tokens" on studio.vr_shop_tokens for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Admins may set their shops' tokens limits" on studio.vr_shop_tokens for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table studio.vr_shop_tokens from public, anon, authenticated, service_role;
grant select (id, workspace_id, shop_id, name, notes, prefix, rate_limit_per_minute, rate_limit_per_hour,
    rate_limit_per_day, expires_at, revoked_at, total_uses, total_successful, total_failed, last_used_at, created_by,
    created_at, updated_at),
  update (name, notes, rate_limit_per_minute, rate_limit_per_hour, rate_limit_per_day, expires_at)
  on table studio.vr_shop_tokens to authenticated;
grant select, insert, update, delete on table studio.vr_shop_tokens to service_role;

create table studio.vr_token_usage (
  token_id uuid not null,
  day date not null,
  workspace_id uuid not null,
  uses integer not null default 0,
  tryons integer not null default 0,
  successful integer not null default 0,
  failed integer not null default 0,
  cost_micro bigint not null default 0,
  constraint vr_token_usage_pkey primary key (token_id, day),
  constraint vr_token_usage_token_id_fkey foreign key (token_id)
    references studio.vr_shop_tokens (id) on delete cascade,
  constraint vr_token_usage_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_token_usage_counts_not_negative
    check (uses >= 0 and tryons >= 0 and successful >= 0 and failed >= 0 and cost_micro >= 0)
) with (fillfactor = 50);
comment on table studio.vr_token_usage is
  'What came by a token each day (UTC): requests, try-ons, how they ended, cost.';
create index vr_token_usage_workspace_id on studio.vr_token_usage (workspace_id, day desc);
alter table studio.vr_token_usage enable row level security;
create policy "Members may read their shops' use" on studio.vr_token_usage for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.vr_token_usage from public, anon, authenticated, service_role;
grant select on table studio.vr_token_usage to authenticated;
grant select, insert, update, delete on table studio.vr_token_usage to service_role;

create type studio.new_vr_token as (
  id uuid, workspace_id uuid, shop_id uuid, name text, prefix text, rate_limit_per_minute integer,
  rate_limit_per_hour integer, rate_limit_per_day integer, expires_at timestamptz, created_at timestamptz, token text
);
comment on type studio.new_vr_token is 'A token of a VR shop with the token itself, as its maker sees it this once.';

create function private.create_vr_token(shop_id uuid, name text, rate_limit_per_minute integer,
  rate_limit_per_hour integer, rate_limit_per_day integer, expires_at timestamptz, notes text)
returns studio.new_vr_token
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_shop studio.vr_shops;
  v_token text := 'vrt_' || private.new_token();
  v_result studio.new_vr_token;
begin
  select * into v_shop from studio.vr_shops s
  where s.id = shop_id and (private.is_service() or private.has_role(s.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_vr_shop', 'There is no such shop.', jsonb_build_object('shop_id', shop_id));
  end if;
  perform private.require_role(v_shop.workspace_id, 'admin');
  if expires_at <= private.now() then
    perform private.fail('invalid_argument', 'A token expires in the future.',
      jsonb_build_object('argument', 'expires_at', 'value', expires_at));
  end if;
  insert into studio.vr_shop_tokens as t (workspace_id, shop_id, name, notes, prefix, token_hash,
    rate_limit_per_minute, rate_limit_per_hour, rate_limit_per_day, expires_at, created_by)
  values (v_shop.workspace_id, shop_id, nullif(btrim(name), ''), notes, left(v_token, 12), private.token_hash(v_token),
    rate_limit_per_minute, rate_limit_per_hour, rate_limit_per_day, expires_at, auth.uid())
  returning t.id, t.workspace_id, t.shop_id, t.name, t.prefix, t.rate_limit_per_minute, t.rate_limit_per_hour,
    t.rate_limit_per_day, t.expires_at, t.created_at, v_token
  into v_result;
  return v_result;
end $$;
comment on function private.create_vr_token is 'Core of studio.create_vr_token; checks the caller first.';
revoke all on function private.create_vr_token from public, anon, authenticated, service_role;
grant execute on function private.create_vr_token to authenticated, service_role;

-- Admins, because it lets others spend. Errors: unknown_vr_shop, role_too_low, invalid_argument.
create function studio.create_vr_token(shop_id uuid, name text default null, rate_limit_per_minute integer default 30,
  rate_limit_per_hour integer default 500, rate_limit_per_day integer default 2000,
  expires_at timestamptz default null, notes text default null) returns studio.new_vr_token
language sql
set search_path = ''
as $$
  select private.create_vr_token(shop_id, name, rate_limit_per_minute, rate_limit_per_hour, rate_limit_per_day,
    expires_at, notes)
$$;
comment on function studio.create_vr_token is
  'An admin makes a token for a VR shop; it is in the answer and never shown again.';
revoke all on function studio.create_vr_token from public, anon, authenticated, service_role;
grant execute on function studio.create_vr_token to authenticated, service_role;

create function private.revoke_vr_token(token_id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace_id uuid := (select t.workspace_id from studio.vr_shop_tokens t where t.id = token_id);
begin
  if v_workspace_id is null or not (private.is_service() or private.has_role(v_workspace_id, 'viewer')) then
    perform private.fail('unknown_vr_token', 'There is no such token.', jsonb_build_object('token_id', token_id));
  end if;
  perform private.require_role(v_workspace_id, 'admin');
  update studio.vr_shop_tokens t set revoked_at = private.now() where t.id = token_id and t.revoked_at is null;
end $$;
comment on function private.revoke_vr_token(uuid) is 'Core of studio.revoke_vr_token; checks the caller first.';
revoke all on function private.revoke_vr_token from public, anon, authenticated, service_role;
grant execute on function private.revoke_vr_token to authenticated, service_role;

create function studio.revoke_vr_token(token_id uuid) returns void
language sql
set search_path = ''
as $$ select private.revoke_vr_token(token_id) $$;
comment on function studio.revoke_vr_token(uuid) is
  'An admin ends a token of a VR shop at once; ending it again changes nothing.';
revoke all on function studio.revoke_vr_token from public, anon, authenticated, service_role;
grant execute on function studio.revoke_vr_token to authenticated, service_role;

-- In how many whole seconds a bucket that refuses now lets one through, going by ops.check_rate_limit: the hits of
-- the window before count for the part of it that lies within the last period.
create function private.seconds_until_admitted(bucket text, most integer, period integer) returns integer
language sql stable
set search_path = ''
as $$
  select greatest(1, ceil(extract(epoch from r.window_started_at - private.now()) + case
    when r.hits < most then period * (1 - (most - 1 - r.hits)::numeric / greatest(r.previous_hits, 1))
    else period * (2 - (most - 1)::numeric / r.hits) end)::integer)
  from ops.rate_limits r where r.bucket = seconds_until_admitted.bucket and r.period_seconds = period
$$;
comment on function private.seconds_until_admitted is 'How long until a full rate limit lets the next one through.';
revoke all on function private.seconds_until_admitted from public, anon, authenticated, service_role;
grant execute on function private.seconds_until_admitted to service_role;

-- Counts one use under several limits of a bucket, under all or none. Returns the seconds to wait; null: let through.
create function private.take_from_limits(bucket text, most integer[], periods integer[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_at integer;
begin
  begin
    for i in 1..cardinality(most) loop
      if not ops.check_rate_limit(bucket, most[i], make_interval(secs => periods[i])) then
        v_at := i;
        perform private.fail('rate_limited', 'One of the limits is reached: what was counted is taken back.');
      end if;
    end loop;
  exception when sqlstate 'PT429' then
    return private.seconds_until_admitted(bucket, most[v_at], periods[v_at]);
  end;
  return null;
end $$;
comment on function private.take_from_limits is
  'Counts one use under several limits at once; returns the seconds to wait, null when it is within all.';
revoke all on function private.take_from_limits from public, anon, authenticated, service_role;
grant execute on function private.take_from_limits to service_role;
