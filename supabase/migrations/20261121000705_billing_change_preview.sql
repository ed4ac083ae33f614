-- What another plan would cost, before anybody asks for it.

create type billing.change_preview as (
  kind text, subscription_id uuid, plan_price_id uuid, currency text, amount_minor bigint, effective_at timestamptz,
  next_payment_at timestamptz
);
comment on type billing.change_preview is
  'What asking for a price would do: its kind, when it begins, and what is paid from then on, in minor units.';

create function private.preview_change(workspace_id uuid, app text, plan_price_id uuid)
returns billing.change_preview
language plpgsql security definer
set search_path = ''
as $$
declare
  v_wanted record;
  v_end timestamptz;
begin
  perform private.require_role(workspace_id, 'admin');
  v_wanted := billing._wanted_change(workspace_id, app, plan_price_id);
  v_end := (v_wanted.subscription).current_period_end;
  return row(v_wanted.kind, (v_wanted.subscription).id, (v_wanted.price).id, (v_wanted.price).currency,
    (v_wanted.price).amount_minor, case v_wanted.kind when 'downgrade' then v_end else private.now() end,
    v_end)::billing.change_preview;
end $$;
comment on function private.preview_change is 'Core of billing.preview_change; checks the caller first.';
revoke all on function private.preview_change from public, anon, authenticated, service_role;
grant execute on function private.preview_change to authenticated;

-- Changes nothing. What an upgrade costs at once only the provider can say: the route
-- /billing/subscriptions/preview asks it. Admins may. Errors: those of billing.change_subscription.
create function billing.preview_change(workspace_id uuid, app text, plan_price_id uuid) returns billing.change_preview
language sql
set search_path = ''
as $$ select private.preview_change(workspace_id, app, plan_price_id) $$;
comment on function billing.preview_change is
  'What asking for another price would do, and when: keep, upgrade or downgrade; changes nothing.';
revoke all on function billing.preview_change from public, anon, authenticated, service_role;
grant execute on function billing.preview_change to authenticated;
