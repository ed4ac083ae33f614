-- What staff give to a workspace beside its plan: access, higher limits, longer trials, credits. Each has a reason
-- and a giver, may expire, can be revoked, and is in the audit log. A grant only gives: where the plan allows more,
-- the plan holds.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_admin_grant', 'PT404', 'Use the id of a row of billing.admin_grants.');

create table billing.admin_grants (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  kind text not null,
  app text,
  plan_id uuid,
  feature text,
  limit_value bigint,
  limit_period text,
  amount_micro bigint,
  credit_lot_id uuid,
  reason text not null,
  granted_by uuid,
  key text not null,
  content_hash bytea not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by uuid,
  revoke_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint admin_grants_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint admin_grants_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint admin_grants_feature_fkey foreign key (feature) references billing.features (slug) on update cascade,
  constraint admin_grants_credit_lot_id_fkey foreign key (credit_lot_id) references billing.credit_lots (id)
    on delete set null,
  constraint admin_grants_granted_by_fkey foreign key (granted_by) references identity.profiles (id)
    on delete set null,
  constraint admin_grants_revoked_by_fkey foreign key (revoked_by) references identity.profiles (id)
    on delete set null,
  constraint admin_grants_key_key unique (workspace_id, key),
  constraint admin_grants_kind_known
    check (kind in ('full_access', 'limit_override', 'unlimited', 'trial_extension', 'credits')),
  constraint admin_grants_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint admin_grants_limit_period_known check (limit_period in ('week', 'month', 'year', 'total')),
  constraint admin_grants_feature_of_one check ((feature is not null) = (kind in ('limit_override', 'unlimited'))),
  constraint admin_grants_limit_of_override check ((limit_value is not null) = (kind = 'limit_override')
    and (limit_period is null or kind = 'limit_override') and limit_value >= 0),
  constraint admin_grants_plan_of_full_access check (plan_id is null or (kind = 'full_access' and app is not null)),
  constraint admin_grants_app_of_access check (app is null or kind in ('full_access', 'trial_extension')),
  constraint admin_grants_trial_has_app_and_end
    check (kind <> 'trial_extension' or (app is not null and expires_at is not null)),
  constraint admin_grants_amount_of_credits check ((amount_micro is not null) = (kind = 'credits')
    and amount_micro between 1 and 1000000000000 and (credit_lot_id is null or kind = 'credits')),
  constraint admin_grants_says_why check (length(reason) between 1 and 1000),
  constraint admin_grants_revoked_says_why
    check ((revoked_at is null) = (revoke_reason is null) and (revoked_by is null or revoked_at is not null)
      and length(revoke_reason) between 1 and 1000)
);
comment on table billing.admin_grants is
  'What staff gave a workspace beside its plan: full access, a limit, no limit, a longer trial, credits.';
comment on column billing.admin_grants.app is 'full_access: null is every app; trial_extension: whose trial.';
comment on column billing.admin_grants.plan_id is
  'full_access: as if subscribed to this plan; null: every switch on, every limit lifted.';
comment on column billing.admin_grants.expires_at is 'Null: until revoked.';
create index admin_grants_open on billing.admin_grants (workspace_id) where revoked_at is null;
create index admin_grants_plan_id on billing.admin_grants (plan_id);
create index admin_grants_feature on billing.admin_grants (feature);
create index admin_grants_credit_lot_id on billing.admin_grants (credit_lot_id);
create index admin_grants_granted_by on billing.admin_grants (granted_by);
create index admin_grants_revoked_by on billing.admin_grants (revoked_by);
create trigger admin_grants_touch before update on billing.admin_grants for each row
  execute function private.touch_updated_at();
alter table billing.admin_grants enable row level security;
create policy "Members may read what their workspace was given" on billing.admin_grants for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.admin_grants from public, anon, authenticated, service_role;
-- reason and giver are for the staff
grant select (
  id, workspace_id, kind, app, plan_id, feature, limit_value, limit_period, amount_micro, expires_at, revoked_at,
  created_at
) on table billing.admin_grants to authenticated;
grant select on table billing.admin_grants to service_role;

-- Refuses what no grant can be, with the argument's name. Errors: unknown_workspace, unknown_feature, unknown_plan,
-- invalid_argument.
create function private.check_admin_grant(g billing.admin_grants, plan text) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_feature billing.features;
  v_wrong text;
begin
  select * into v_feature from billing.features f where f.slug = g.feature;
  if not exists (select from identity.workspaces w where w.id = g.workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', g.workspace_id));
  elsif g.feature is not null and v_feature.slug is null then
    perform private.fail('unknown_feature', format('There is no feature %L.', g.feature),
      jsonb_build_object('feature', g.feature));
  elsif plan is not null and g.plan_id is null then
    perform private.fail('unknown_plan', 'There is no such plan of this app.',
      jsonb_build_object('app', g.app, 'slug', plan));
  end if;
  v_wrong := case
    when g.kind is null
      or g.kind not in ('full_access', 'limit_override', 'unlimited', 'trial_extension', 'credits') then 'kind'
    when coalesce(btrim(g.reason), '') = '' then 'reason'
    when not exists (select from identity.profiles p where p.id = g.granted_by) then 'granted_by'
    when (g.feature is not null) <> (g.kind in ('limit_override', 'unlimited')) or v_feature.kind = 'text'
      or (v_feature.kind = 'switch' and g.kind = 'limit_override') then 'feature'
    when (g.limit_value is not null) <> (g.kind = 'limit_override') or g.limit_value < 0 then 'limit_value'
    when g.limit_period is not null and (g.kind <> 'limit_override' or v_feature.limit_period is null)
      then 'limit_period'
    when plan is not null and g.kind <> 'full_access' then 'plan'
    when (g.app is not null and g.kind not in ('full_access', 'trial_extension'))
      or (g.app is null and g.kind = 'trial_extension') then 'app'
    when (g.amount_micro is not null) <> (g.kind = 'credits') then 'amount_micro'
    when g.expires_at <= private.now() or (g.expires_at is null and g.kind = 'trial_extension') then 'expires_at'
  end;
  if v_wrong is not null then
    perform private.fail('invalid_argument', format('A grant of this kind cannot be with such %s.', v_wrong),
      jsonb_build_object('argument', v_wrong, 'kind', g.kind));
  end if;
end $$;
comment on function private.check_admin_grant(billing.admin_grants, text) is 'Refuses what no grant can be.';
revoke all on function private.check_admin_grant from public, anon, authenticated, service_role;

-- The lot of credits that a grant brings: kind admin, which every charge draws first.
create function private.grant_admin_credits(g billing.admin_grants) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_transaction bigint := (select t.ledger_transaction_id from billing.grant_credits(g.workspace_id, g.amount_micro,
    'admin', 'admin_grant:' || g.id, g.expires_at, jsonb_build_object('admin_grant_id', g.id)) t);
begin
  return (select e.lot_id from billing.ledger_entries e
    where e.transaction_id = v_transaction and e.lot_id is not null);
end $$;
comment on function private.grant_admin_credits(billing.admin_grants) is 'Books a grant''s credits; returns their lot.';
revoke all on function private.grant_admin_credits from public, anon, authenticated, service_role;

-- Gives a workspace something beside its plan, once for a key. entitlement() sees it at once.
--   full_access: every feature of the app (null: of all apps), or what the plan named allows.
--   limit_override: the feature up to limit_value (in limit_period, null: the feature's own).
--   unlimited: the feature without a limit; a switch is on.
--   trial_extension: a trial of the app goes on until expires_at.
--   credits: amount_micro micro-units, drawn before anything else.
-- Errors: key_required, key_reused and those of check_admin_grant.
create function billing.create_admin_grant(workspace_id uuid, kind text, reason text, granted_by uuid, key text,
  feature text default null, limit_value bigint default null, limit_period text default null, app text default null,
  plan text default null, amount_micro bigint default null, expires_at timestamptz default null)
returns table (admin_grant_id uuid, created boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_grant billing.admin_grants;
  v_hash bytea := private.content_hash(jsonb_build_object('kind', kind, 'feature', feature, 'limit_value', limit_value,
    'limit_period', limit_period, 'app', app, 'plan', plan, 'amount_micro', amount_micro,
    'expires_at', extract(epoch from expires_at), 'reason', reason, 'granted_by', granted_by));
begin
  perform billing._check_key(key);
  select * into v_grant from billing.admin_grants g
  where g.workspace_id = create_admin_grant.workspace_id and g.key = create_admin_grant.key;
  if not found then
    v_grant := row(gen_random_uuid(), workspace_id, kind, app, (select p.id from billing.plans p
      where p.app = create_admin_grant.app and p.slug = plan), feature, limit_value, limit_period, amount_micro, null,
      reason, granted_by, key, v_hash, expires_at, null, null, null, private.now(), private.now());
    perform private.check_admin_grant(v_grant, plan);
    insert into billing.admin_grants select v_grant.* on conflict on constraint admin_grants_key_key do nothing;
    created := found;
    select * into v_grant from billing.admin_grants g
    where g.workspace_id = create_admin_grant.workspace_id and g.key = create_admin_grant.key;
  end if;
  if v_grant.content_hash <> v_hash then
    perform private.fail('key_reused', 'This key has been used for a different grant.', jsonb_build_object('key', key));
  end if;
  if created then
    if kind = 'credits' then
      update billing.admin_grants g set credit_lot_id = private.grant_admin_credits(v_grant) where g.id = v_grant.id;
    elsif kind = 'trial_extension' then
      perform private.extend_trial(v_grant);
    end if;
    perform ops.write_audit('billing.admin_grant.create', 'billing.admin_grants', null,
      to_jsonb(v_grant) - '{content_hash,credit_lot_id}'::text[], workspace_id, granted_by,
      target_id => v_grant.id::text, event_id => 'admin_grant.create:' || v_grant.id);
  end if;
  admin_grant_id := v_grant.id;
  created := coalesce(created, false);
  return next;
end $$;
comment on function billing.create_admin_grant is
  'Staff give a workspace access, a limit, a longer trial or credits, once for a key; audited.';
revoke all on function billing.create_admin_grant from public, anon, authenticated, service_role;
grant execute on function billing.create_admin_grant to service_role;

-- Ends a grant at once; again changes nothing. Credits: what is unspent expires, and the ledger books it.
-- Errors: unknown_admin_grant, invalid_argument.
create function billing.revoke_admin_grant(admin_grant_id uuid, reason text, revoked_by uuid)
returns table (revoked_at timestamptz, revoked boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_grant billing.admin_grants;
begin
  select * into v_grant from billing.admin_grants g where g.id = admin_grant_id for update;
  if not found then
    perform private.fail('unknown_admin_grant', 'There is no such grant.',
      jsonb_build_object('admin_grant_id', admin_grant_id));
  elsif coalesce(btrim(reason), '') = '' then
    perform private.fail('invalid_argument', 'A grant is revoked for a reason.', '{"argument": "reason"}');
  elsif not exists (select from identity.profiles p where p.id = revoked_by) then
    perform private.fail('invalid_argument', 'Somebody revokes a grant.', '{"argument": "revoked_by"}');
  end if;
  revoked := v_grant.revoked_at is null;
  if revoked then
    update billing.admin_grants g
    set revoked_at = private.now(), revoked_by = revoke_admin_grant.revoked_by, revoke_reason = reason
    where g.id = v_grant.id returning g.* into v_grant;
    perform billing._lock_wallet(v_grant.workspace_id) where v_grant.credit_lot_id is not null;
    update billing.credit_lots l set expires_at = v_grant.revoked_at
    where l.id = v_grant.credit_lot_id and coalesce(l.expires_at > v_grant.revoked_at, true);
    perform ops.write_audit('billing.admin_grant.revoke', 'billing.admin_grants', null,
      jsonb_build_object('reason', reason, 'revoked_at', v_grant.revoked_at), v_grant.workspace_id, revoked_by,
      target_id => v_grant.id::text, event_id => 'admin_grant.revoke:' || v_grant.id);
  end if;
  revoked_at := v_grant.revoked_at;
  return next;
end $$;
comment on function billing.revoke_admin_grant is 'Staff end a grant at once, for a reason; audited.';
revoke all on function billing.revoke_admin_grant from public, anon, authenticated, service_role;
grant execute on function billing.revoke_admin_grant to service_role;
