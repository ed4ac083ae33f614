-- Quotas: what a workspace has used of a limit, exactly. A use is known by its key for ever; giving it back makes
-- room in the period it was taken from. Counts of things that exist (channels, gigabytes) are totals: one key each,
-- consumed when it comes, released when it goes.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_quota_use', 'PT404', 'Use the key that the quota was consumed with.');

create table billing.quota_uses (
  workspace_id uuid not null,
  key text not null,
  quota_id uuid not null,
  feature text not null,
  amount numeric not null,
  created_at timestamptz not null default now(),
  released_at timestamptz,
  constraint quota_uses_pkey primary key (workspace_id, key),
  constraint quota_uses_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint quota_uses_quota_id_fkey foreign key (quota_id) references billing.quotas (id) on delete cascade,
  constraint quota_uses_feature_fkey foreign key (feature) references billing.features (slug) on update cascade,
  constraint quota_uses_key_length check (length(key) between 1 and 255),
  constraint quota_uses_amount_positive check (amount > 0)
);
comment on table billing.quota_uses is 'Each use of a quota by its key, and whether it was given back.';
comment on column billing.quota_uses.amount is 'In units of the feature.';
create index quota_uses_quota_id on billing.quota_uses (quota_id);
create index quota_uses_feature on billing.quota_uses (feature);
alter table billing.quota_uses enable row level security;
create policy "Members may read their workspace's uses" on billing.quota_uses for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.quota_uses from public, anon, authenticated, service_role;
grant select on table billing.quota_uses to authenticated, service_role;

create type billing.quota_use as (
  feature text, amount numeric, used_value numeric, limit_value bigint, remaining numeric, period_start timestamptz,
  period_end timestamptz, released_at timestamptz, created boolean
);
comment on type billing.quota_use is
  'A use of a quota and how the quota stands, in units; created says whether this call took it.';

-- The answer to a call with a key that is known.
create function private.known_quota_use(use billing.quota_uses) returns billing.quota_use
language sql stable
set search_path = ''
as $$
  select use.feature, use.amount, q.used_value, q.limit_value, q.limit_value - q.used_value, q.period_start,
    q.period_end, use.released_at, false
  from billing.quotas q where q.id = use.quota_id
$$;
comment on function private.known_quota_use(billing.quota_uses) is 'How the quota of an earlier use stands.';
revoke all on function private.known_quota_use from public, anon, authenticated, service_role;

-- Whether the key is of this very use; raises when it is of another. A use that is unknown is no use.
create function private.is_same_use(use billing.quota_uses, feature text, amount numeric) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if use.key is not null and (use.feature, use.amount) is distinct from (is_same_use.feature, is_same_use.amount) then
    perform private.fail('key_reused', 'This key has been used for a different quantity.',
      jsonb_build_object('key', use.key, 'feature', use.feature, 'amount', use.amount));
  end if;
  return use.key is not null;
end $$;
comment on function private.is_same_use is 'Whether a known use is the one asked for.';
revoke all on function private.is_same_use from public, anon, authenticated, service_role;

-- The quota's row of the running period, locked: what runs goes on to its end, whatever begins meanwhile by another
-- plan, so the row is looked for and not the entitlement's period. Made at its first use by one at a time, so that
-- first uses at once meet in it.
create function private.lock_quota(entitlement billing.feature_entitlement) returns billing.quotas
language plpgsql
set search_path = ''
as $$
declare
  v_quota billing.quotas;
begin
  for v_try in 1..2 loop
    select * into v_quota from billing.quotas q
    where q.workspace_id = entitlement.workspace_id and q.feature = entitlement.feature
      and (q.period_end is null) = (entitlement.limit_period = 'total')
      and (q.period_end is null or q.period_end > private.now())
    order by q.period_end desc nulls last limit 1
    for no key update;
    if found then
      return v_quota;
    end if;
    perform pg_advisory_xact_lock(hashtextextended(
      'quota:' || entitlement.workspace_id || ':' || entitlement.feature, 0));
  end loop;
  insert into billing.quotas (workspace_id, subscription_id, feature, limit_value, period_start, period_end)
  values (entitlement.workspace_id, entitlement.subscription_id, entitlement.feature, entitlement.limit_value,
    entitlement.period_start, entitlement.period_end)
  returning * into v_quota;
  return v_quota;
end $$;
comment on function private.lock_quota is 'The locked row of the running period of an entitlement''s feature.';
revoke all on function private.lock_quota from public, anon, authenticated, service_role;

-- Uses an amount (in units of the feature; fractions count) of a limit, once for a key for ever. The row of the
-- period is locked, so that calls at once never use more than the limit. The answer to a repeated call has created
-- false and tells how the quota stands now. Who uses two features in one transaction takes them in one order.
-- Errors: unknown_workspace, unknown_feature, invalid_argument (no counted limit, amount not positive),
-- key_required, key_reused, quota_exceeded (details: limit_value, used_value, remaining, requested, period_end).
create function billing.consume_quota(workspace_id uuid, feature text, amount numeric, key text)
returns billing.quota_use
language plpgsql security definer
set search_path = ''
as $$
declare
  v_use billing.quota_uses;
  v_answer billing.feature_entitlement;
  v_quota billing.quotas;
begin
  perform billing._check_key(key);
  if amount is null or not (amount > 0 and amount <= 1000000000000) then
    perform private.fail('invalid_argument', 'amount must be above 0 and at most 1,000,000,000,000.',
      '{"argument": "amount"}');
  end if;
  select * into v_use from billing.quota_uses u
  where u.workspace_id = consume_quota.workspace_id and u.key = consume_quota.key;
  if private.is_same_use(v_use, feature, amount) then
    return private.known_quota_use(v_use);
  end if;
  v_answer := private.entitlement(workspace_id, feature);
  if v_answer.limit_period is null then
    perform private.fail('invalid_argument', format('The feature %s is not counted.', feature),
      jsonb_build_object('argument', 'feature', 'kind', v_answer.kind));
  end if;
  v_quota := private.lock_quota(v_answer);
  -- a call with the same key may have come first: the insert waits for it
  insert into billing.quota_uses (workspace_id, key, quota_id, feature, amount, created_at)
  values (workspace_id, key, v_quota.id, feature, amount, private.now())
  on conflict on constraint quota_uses_pkey do nothing;
  if not found then
    select * into strict v_use from billing.quota_uses u
    where u.workspace_id = consume_quota.workspace_id and u.key = consume_quota.key;
    perform private.is_same_use(v_use, feature, amount);
    return private.known_quota_use(v_use);
  end if;
  if v_quota.used_value + amount > v_answer.limit_value then
    v_answer.used_value := v_quota.used_value;
    v_answer.remaining := greatest(v_answer.limit_value - v_quota.used_value, 0);
    perform private.refuse_use(v_answer, amount);
  end if;
  update billing.quotas q set used_value = q.used_value + amount, limit_value = v_answer.limit_value,
    subscription_id = v_answer.subscription_id
  where q.id = v_quota.id returning * into v_quota;
  return row(feature, amount, v_quota.used_value, v_quota.limit_value, v_quota.limit_value - v_quota.used_value,
    v_quota.period_start, v_quota.period_end, null, true)::billing.quota_use;
end $$;
comment on function billing.consume_quota(uuid, text, numeric, text) is
  'Uses an amount of a limit, once for a key; never more than the limit, however many call at once.';
revoke all on function billing.consume_quota from public, anon, authenticated, service_role;
grant execute on function billing.consume_quota to service_role;

-- Gives a use back to the period it was taken from, once; created says whether this call did. The key stays used.
-- Errors: unknown_quota_use.
create function billing.release_quota(workspace_id uuid, key text) returns billing.quota_use
language plpgsql security definer
set search_path = ''
as $$
declare
  v_use billing.quota_uses;
  v_answer billing.quota_use;
  v_released boolean;
begin
  select * into v_use from billing.quota_uses u
  where u.workspace_id = release_quota.workspace_id and u.key = release_quota.key;
  if not found then
    perform private.fail('unknown_quota_use', 'Nothing was used with this key.',
      jsonb_build_object('workspace_id', workspace_id, 'key', key));
  end if;
  -- the quota before its use, as who consumes with the same key takes them
  perform from billing.quotas q where q.id = v_use.quota_id for no key update;
  update billing.quota_uses u set released_at = private.now()
  where u.workspace_id = v_use.workspace_id and u.key = v_use.key and u.released_at is null;
  v_released := found;
  if v_released then
    update billing.quotas q set used_value = q.used_value - v_use.amount where q.id = v_use.quota_id;
  end if;
  select * into v_use from billing.quota_uses u where u.workspace_id = v_use.workspace_id and u.key = v_use.key;
  v_answer := private.known_quota_use(v_use);
  v_answer.created := v_released;
  return v_answer;
end $$;
comment on function billing.release_quota(uuid, text) is 'Gives a use of a quota back, once for its key.';
revoke all on function billing.release_quota from public, anon, authenticated, service_role;
grant execute on function billing.release_quota to service_role;
