-- One reload for each crossing of the threshold: the update that crosses disarms the wallet under its lock and
-- queues the reload, so that of a thousand debits at once only one does. A reload is one payment and one intent at
-- Stripe, however often it is tried; the wallet is armed again when it has ended.

create table billing.auto_reloads (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  status text not null default 'queued',
  needed_micro bigint,
  payment_id uuid,
  attempts integer not null default 0,
  charge_ids text[] not null default '{}',
  error_code text,
  next_attempt_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  constraint auto_reloads_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint auto_reloads_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint auto_reloads_status_known check (status in ('queued', 'charging', 'retrying', 'requires_action',
    'succeeded', 'failed', 'skipped', 'capped')),
  constraint auto_reloads_ended_has_time
    check ((status in ('succeeded', 'failed', 'skipped', 'capped')) = (ended_at is not null)),
  constraint auto_reloads_charging_has_payment check (status in ('queued', 'skipped', 'capped', 'failed')
    or payment_id is not null),
  constraint auto_reloads_retry_has_time check ((status = 'retrying') <= (next_attempt_at is not null))
);
comment on table billing.auto_reloads is 'Each crossing of a workspace''s threshold, and the payment that answered it.';
create unique index auto_reloads_open on billing.auto_reloads (workspace_id) where ended_at is null;
create unique index auto_reloads_payment_id on billing.auto_reloads (payment_id) where payment_id is not null;
create index auto_reloads_workspace_id on billing.auto_reloads (workspace_id, created_at desc);
create trigger auto_reloads_touch before update on billing.auto_reloads for each row
  execute function private.touch_updated_at();
alter table billing.auto_reloads enable row level security;
create policy "Members may read their workspace's reloads" on billing.auto_reloads for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.auto_reloads from public, anon, authenticated, service_role;
grant select on table billing.auto_reloads to authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.auto_reload', 'Charges a saved card for an automatic reload and sees it through.',
    'billing.on_auto_reload_job', interval '30 days');

-- Begins a reload, unless one is under way. The caller holds the wallet's lock.
create function billing._begin_reload(workspace_id uuid, needed_micro bigint default null) returns uuid
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_id uuid;
begin
  update billing.wallets w set auto_reload_below_micro = null where w.workspace_id = _begin_reload.workspace_id;
  insert into billing.auto_reloads (workspace_id, needed_micro) values (workspace_id, needed_micro)
  on conflict do nothing returning id into v_id;
  if found then
    perform ops.enqueue_job('billing.auto_reload', jsonb_build_object('reload_id', v_id), workspace_id,
      max_attempts => 20, key => 'auto_reload:' || v_id);
  end if;
  return v_id;
end $$;
comment on function billing._begin_reload is 'Disarms a wallet and queues its reload, one at a time.';
revoke all on function billing._begin_reload from public, anon, authenticated, service_role;

create function private.cross_threshold() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform billing._begin_reload(new.workspace_id);
  return null;
end $$;
comment on function private.cross_threshold() is 'Trigger: a wallet that fell below its threshold begins a reload.';
revoke all on function private.cross_threshold from public, anon, authenticated, service_role;
-- null while not armed, so that a charge that crosses nothing pays for one comparison
create trigger wallets_auto_reload after update of allowance_micro, lots_micro, prepaid_micro on billing.wallets
  for each row when (new.allowance_micro + new.lots_micro + new.prepaid_micro < new.auto_reload_below_micro)
  execute function private.cross_threshold();

-- Credits that pay for certain meters only are none that any work can spend.
create function billing._scoped_credits(workspace_id uuid) returns bigint
language sql stable
set search_path = ''
as $$
  select coalesce(sum(l.remaining_micro), 0)::bigint from billing.credit_lots l
  where l.workspace_id = _scoped_credits.workspace_id and l.is_open and l.meters is not null
    and (l.expires_at is null or l.expires_at > private.now())
$$;
comment on function billing._scoped_credits(uuid) is 'Credits of a workspace that pay for certain meters only.';
revoke all on function billing._scoped_credits from public, anon, authenticated, service_role;

-- Such credits have come. Where they go nothing is done: a crossing too many charges nothing, and arms anew.
create function billing._raise_reload(workspace_id uuid, amount_micro bigint) returns void
language sql
set search_path = ''
as $$
  update billing.wallets w set auto_reload_below_micro = w.auto_reload_below_micro + amount_micro
  where w.workspace_id = _raise_reload.workspace_id and w.auto_reload_below_micro is not null
$$;
comment on function billing._raise_reload(uuid, bigint) is 'Keeps credits for certain meters out of a reload.';
revoke all on function billing._raise_reload from public, anon, authenticated, service_role;

-- Arms a wallet as its settings say, when it is not frozen and no reload is under way; one that is below already
-- begins at once. The caller holds the wallet's lock.
create function billing._arm_auto_reload(workspace_id uuid) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_wallet billing.wallets;
begin
  update billing.wallets w
  set auto_reload_below_micro = (select s.threshold_minor * 1000 + billing._scoped_credits(s.workspace_id)
    from billing.auto_reload_settings s
    where s.workspace_id = w.workspace_id and s.enabled and s.paused_until is null and w.status = 'active'
      and not exists (select from billing.auto_reloads r where r.workspace_id = w.workspace_id and r.ended_at is null))
  where w.workspace_id = _arm_auto_reload.workspace_id
  returning * into v_wallet;
  if v_wallet.allowance_micro + v_wallet.lots_micro + v_wallet.prepaid_micro < v_wallet.auto_reload_below_micro then
    perform billing._begin_reload(workspace_id);
  end if;
end $$;
comment on function billing._arm_auto_reload(uuid) is 'Arms a wallet for its next crossing.';
revoke all on function billing._arm_auto_reload from public, anon, authenticated, service_role;

-- Ends a reload that is under way. The caller arms the wallet again, or does not.
create function billing._end_reload(reload_id uuid, status text, error_code text default null) returns void
language sql
set search_path = ''
as $$
  update billing.auto_reloads r
  set status = _end_reload.status, error_code = coalesce(_end_reload.error_code, r.error_code), next_attempt_at = null,
    ended_at = private.now()
  where r.id = reload_id and r.ended_at is null
$$;
comment on function billing._end_reload(uuid, text, text) is 'Ends a reload.';
revoke all on function billing._end_reload from public, anon, authenticated, service_role;

-- Tells the admins of a workspace, each once for a key.
create function billing._tell_of_reload(workspace_id uuid, type text, title text, description text, key text,
  metadata jsonb) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
begin
  perform private.notify_user(m.user_id, m.workspace_id, type, title, description, '/billing', metadata, key,
    'billing.auto_reload')
  from identity.workspace_members m
  where m.workspace_id = _tell_of_reload.workspace_id and m.role in ('admin', 'owner') and not m.is_suspended;
end $$;
comment on function billing._tell_of_reload is 'Tells the admins of a workspace what became of its reload.';
revoke all on function billing._tell_of_reload from public, anon, authenticated, service_role;

-- Switches the reload off and says why. What is under way and can still be stopped ends.
create function billing._disable_auto_reload(workspace_id uuid, reason text) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
begin
  perform billing._lock_wallet(workspace_id);
  update billing.auto_reload_settings s
  set enabled = false, disabled_reason = reason, last_reload_status = 'failed', last_reload_at = private.now()
  where s.workspace_id = _disable_auto_reload.workspace_id;
  update billing.wallets w set auto_reload_below_micro = null
  where w.workspace_id = _disable_auto_reload.workspace_id and w.auto_reload_below_micro is not null;
  perform billing._end_reload(r.id, 'failed', reason) from billing.auto_reloads r
  where r.workspace_id = _disable_auto_reload.workspace_id and r.status <> 'charging' and r.ended_at is null;
  perform billing._tell_of_reload(workspace_id, 'error', 'Automatic reload is off',
    case reason when 'refunded' then 'Money went back, and the balance is low. Switch the reload on again to go on.'
      when 'disputed' then 'A payment is disputed. Switch the reload on again when that is settled.'
      when 'payment_method_removed' then 'Its card was removed. Save another one and switch the reload on again.'
      else 'The card could not be charged. Check it and switch the reload on again.' end,
    format('auto_reload_off:%s:%s', workspace_id, private.now()), jsonb_build_object('reason', reason));
end $$;
comment on function billing._disable_auto_reload(uuid, text) is 'Switches a workspace''s reload off for a reason.';
revoke all on function billing._disable_auto_reload from public, anon, authenticated, service_role;

-- Where a reload stands, with what the charge needs.
create type billing.reload_state as (reload_id uuid, status text, attempts integer, next_attempt_at timestamptz,
  created_at timestamptz, payment_id uuid, payment_status text, amount_minor bigint, currency text,
  provider_payment_id text, workspace_id uuid, customer_id text, payment_method_id text);

-- The job's step before each try. The first fixes the amount under the wallet's lock, by the balance of now, and
-- makes the payment; a reload that is no longer needed or wanted, or would pass the cap, ends; also one whose charge
-- did not reach the provider before (the job sees to it that no intent is left).
-- Error: unknown_payment.
create function billing.advance_reload(reload_id uuid) returns billing.reload_state
language plpgsql security definer
set search_path = ''
as $$
declare
  v_reload billing.auto_reloads;
  v_settings billing.auto_reload_settings;
  v_wallet billing.wallets;
  v_balance bigint;
  v_amount bigint;
  v_left bigint;
  v_payment uuid;
begin
  perform billing._fresh_wallet(r.workspace_id) from billing.auto_reloads r where r.id = reload_id;
  select * into v_reload from billing.auto_reloads r where r.id = reload_id;
  if not found then
    perform private.fail('unknown_payment', 'There is no such reload.', jsonb_build_object('reload_id', reload_id));
  end if;
  select * into v_settings from billing.auto_reload_settings s where s.workspace_id = v_reload.workspace_id;
  if v_reload.status in ('queued', 'retrying') then
    select * into v_wallet from billing.wallets w where w.workspace_id = v_reload.workspace_id;
    v_balance := v_wallet.allowance_micro + v_wallet.lots_micro + v_wallet.prepaid_micro
      - billing._scoped_credits(v_reload.workspace_id);
    -- cents that bring the balance back to the threshold and to what is wanted, at least the amount that was set
    v_amount := greatest(v_settings.amount_minor,
      ceil((greatest(v_settings.threshold_minor * 1000, v_reload.needed_micro) - v_balance) / 1000.0)::bigint);
    v_left := v_settings.monthly_cap_minor - (select coalesce(sum(p.amount_minor - p.refunded_minor), 0)
      from billing.payments p where p.workspace_id = v_reload.workspace_id and p.kind = 'auto_reload'
        and p.created_at >= date_trunc('month', private.now() at time zone 'UTC') at time zone 'UTC'
        and p.status not in ('failed', 'cancelled', 'expired'));
    if v_settings.enabled is not true or v_wallet.status = 'frozen'
      or v_balance >= greatest(v_settings.threshold_minor * 1000, v_reload.needed_micro) then
      perform billing._end_reload(reload_id, 'skipped');
      perform billing._arm_auto_reload(v_reload.workspace_id);
    elsif v_reload.status = 'retrying' then
      null;
    elsif v_left < 1500 then
      perform billing._cap_reload(v_reload);
    else
      insert into billing.payments (workspace_id, user_id, kind, amount_minor, currency, credits_micro, metadata,
        created_at)
      values (v_reload.workspace_id, v_settings.created_by, 'auto_reload', least(v_amount, v_left), 'USD',
        least(v_amount, v_left) * 1000, jsonb_build_object('reload_id', reload_id), private.now())
      returning id into v_payment;
      update billing.auto_reloads r set status = 'charging', payment_id = v_payment where r.id = reload_id;
    end if;
  elsif v_reload.status = 'charging' and v_settings.enabled is not true and exists (select from billing.payments p
    where p.id = v_reload.payment_id and p.provider_payment_id is null) then
    perform billing._end_reload(reload_id, 'skipped');
  end if;
  return (
    select row(r.id, r.status, r.attempts, r.next_attempt_at, r.created_at, p.id, p.status, p.amount_minor, p.currency,
      p.provider_payment_id, r.workspace_id, w.provider_customer_id, m.provider_payment_method_id)::billing.reload_state
    from billing.auto_reloads r
    join billing.wallets w on w.workspace_id = r.workspace_id
    left join billing.payments p on p.id = r.payment_id
    left join billing.auto_reload_settings s on s.workspace_id = r.workspace_id
    left join billing.payment_methods m on m.id = s.payment_method_id
    where r.id = reload_id);
end $$;
comment on function billing.advance_reload(uuid) is 'Makes the payment of a reload, once, and says where it stands.';
revoke all on function billing.advance_reload from public, anon, authenticated, service_role;
grant execute on function billing.advance_reload to service_role;

-- The cap is reached: no more until the month (UTC) is over.
create function billing._cap_reload(reload billing.auto_reloads) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_until timestamptz := (date_trunc('month', private.now() at time zone 'UTC') + interval '1 month')
    at time zone 'UTC';
begin
  perform billing._end_reload(reload.id, 'capped');
  update billing.auto_reload_settings s
  set paused_until = v_until, last_reload_status = 'capped', last_reload_at = private.now()
  where s.workspace_id = reload.workspace_id;
  perform billing._tell_of_reload(reload.workspace_id, 'warning', 'Monthly cap reached',
    'No more credits are bought automatically this month.',
    format('auto_reload_cap:%s:%s', reload.workspace_id, v_until), jsonb_build_object('until', v_until));
end $$;
comment on function billing._cap_reload(billing.auto_reloads) is 'Pauses a reload until the next month.';
revoke all on function billing._cap_reload from public, anon, authenticated, service_role;

-- Sweep: arms the wallets whose month is over. It waits for no wallet.
create function billing.resume_auto_reloads() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace uuid;
  v_resumed integer := 0;
begin
  for v_workspace in
    select w.workspace_id from billing.wallets w
    where w.workspace_id in (select s.workspace_id from billing.auto_reload_settings s
      where s.paused_until <= private.now() order by s.paused_until limit 500)
    for no key update skip locked
  loop
    update billing.auto_reload_settings s set paused_until = null where s.workspace_id = v_workspace;
    perform billing._arm_auto_reload(v_workspace);
    v_resumed := v_resumed + 1;
  end loop;
  return v_resumed;
end $$;
comment on function billing.resume_auto_reloads() is 'Sweep: arms up to 500 wallets whose cap has been lifted.';
revoke all on function billing.resume_auto_reloads from public, anon, authenticated, service_role;
grant execute on function billing.resume_auto_reloads to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('resume auto-reloads', 'billing.resume_auto_reloads', interval '10 minutes');
