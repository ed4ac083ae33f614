-- Looking: who asks the provider about a subscription takes a number first (a ticket) and asks then. An answer holds
-- every change that was made before its ticket was taken, so an answer with a lower ticket than the one applied
-- last is dropped: whatever it could tell is known. Each event asks for a look that begins after it, hence the look
-- with the highest ticket has seen the last change, in whatever order events, answers and workers come.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.look_at_subscription', 'Asks Stripe for a subscription and applies the answer.', 'billing.on_look_job',
    interval '1 day'),
  ('billing.undo_surplus', 'Cancels a subscription that was bought twice and pays it back.', null, interval '7 days');

-- Asks for a look: one job a subscription, whatever the number of events. Returns whether a new job was needed.
create function billing.look_at_subscription(provider_subscription_id text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_look billing.subscription_looks;
  v_job bigint;
begin
  -- should the job die, the sweep asks again
  insert into billing.subscription_looks as l (provider_subscription_id, wanted, next_look_at)
  values (look_at_subscription.provider_subscription_id, true, private.now() + interval '1 hour')
  on conflict on constraint subscription_looks_pkey do update set wanted = true
  returning l.* into v_look;
  if exists (select from ops.jobs j where j.id = v_look.job_id
      and j.state not in ('completed', 'dead', 'cancelled')) then
    return false;
  end if;
  select j.job_id into v_job from ops.enqueue_job('billing.look_at_subscription',
    jsonb_build_object('provider_subscription_id', look_at_subscription.provider_subscription_id),
    v_look.workspace_id, max_attempts => 10) j;
  update billing.subscription_looks l set job_id = v_job
  where l.provider = v_look.provider and l.provider_subscription_id = v_look.provider_subscription_id;
  return true;
end $$;
comment on function billing.look_at_subscription(text) is
  'Lets a job ask the provider for a subscription, unless one is about to.';
revoke all on function billing.look_at_subscription from public, anon, authenticated, service_role;
grant execute on function billing.look_at_subscription to service_role;

-- Takes a ticket; call it before the provider is asked. With for_job the wish to look is met by it: events that come
-- from now on need another look.
create function billing.begin_look(provider_subscription_id text, for_job boolean default false) returns bigint
language plpgsql security definer
set search_path = ''
as $$
begin
  if for_job then
    update billing.subscription_looks l set wanted = false
    where l.provider = 'stripe' and l.provider_subscription_id = begin_look.provider_subscription_id;
  end if;
  return nextval('billing.look_tickets');
end $$;
comment on function billing.begin_look is 'Takes the number of a question to the provider, before it is asked.';
revoke all on function billing.begin_look from public, anon, authenticated, service_role;
grant execute on function billing.begin_look to service_role;

-- on_event of a look: a wish that came after the question was asked, while the job was still at work, is met by
-- another. The row's lock puts the end of the job and the next wish in order.
create function billing.on_look_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id text := job.payload ->> 'provider_subscription_id';
begin
  if event <> 'completed' then
    return;
  end if;
  perform from billing.subscription_looks l
  where l.provider = 'stripe' and l.provider_subscription_id = v_id and l.wanted for update;
  if found then
    update billing.subscription_looks l
    set job_id = (select j.job_id from ops.enqueue_job('billing.look_at_subscription', job.payload, job.workspace_id,
      max_attempts => 10) j)
    where l.provider = 'stripe' and l.provider_subscription_id = v_id;
  end if;
end $$;
comment on function billing.on_look_job(ops.jobs, text) is 'Looks again where another look was wanted meanwhile.';
revoke all on function billing.on_look_job from public, anon, authenticated, service_role;

-- When to look even if no event comes: soon after the next change that is expected, at least once a day, and more
-- often while money is owed. Null once nothing can change any more.
create function billing._next_look(state billing.subscription_state) returns timestamptz
language sql stable
set search_path = ''
as $$
  select case when state.status in ('cancelled', 'incomplete_expired') then null
    else greatest(private.now() + interval '10 minutes', least(
      private.now() + case when state.status in ('incomplete', 'past_due', 'unpaid')
        or state.pending_price_id is not null then interval '3 hours' else interval '1 day' end,
      -- a renewal's invoice is a draft for an hour
      state.period_end + interval '65 minutes', state.trial_end + interval '5 minutes',
      state.cancel_at + interval '5 minutes', state.scheduled_at + interval '5 minutes')) end
$$;
comment on function billing._next_look is 'When to look at a subscription even without an event.';
revoke all on function billing._next_look from public, anon, authenticated, service_role;

-- Notes a second subscription and lets a job cancel it and pay it back.
create function billing._note_surplus(workspace_id uuid, app text, surplus text, kept text) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into billing.surplus_subscriptions (provider_subscription_id, workspace_id, app,
    kept_provider_subscription_id)
  values (surplus, _note_surplus.workspace_id, _note_surplus.app, coalesce(kept, ''))
  on conflict do nothing;
  if found then
    perform ops.enqueue_job('billing.undo_surplus', jsonb_build_object('provider_subscription_id', surplus),
      _note_surplus.workspace_id, max_attempts => 20);
  end if;
end $$;
comment on function billing._note_surplus is 'Notes a subscription that was bought twice and the job that undoes it.';
revoke all on function billing._note_surplus from public, anon, authenticated, service_role;

-- Gives a state its place, or finds that another subscription has it. holder_is_fresh: the holder has just been
-- looked at; before that nothing is condemned by what may be old. Returns applied, contested, surplus or ignored.
create function billing._place_subscription(state billing.subscription_state, holder_is_fresh boolean) returns text
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_old billing.subscriptions;
  v_new billing.subscriptions;
  v_app text := coalesce((select s.app from billing.subscriptions s where s.provider = 'stripe'
    and s.provider_subscription_id = state.provider_subscription_id), state.app);
  v_verdict text := 'new';
begin
  if v_app is null then
    perform private.fail('unknown_provider_price', format('Subscription %s has the price %s, which is none of ours.',
      state.provider_subscription_id, state.price_id), jsonb_build_object('price_id', state.price_id));
  end if;
  perform billing._lock_place(state.workspace_id, v_app);
  select * into v_old from billing.subscriptions s
  where s.workspace_id = state.workspace_id and s.app = v_app for no key update;
  if exists (select from billing.surplus_subscriptions u
      where u.provider_subscription_id = state.provider_subscription_id) then
    return 'surplus';
  elsif v_old.id is null and billing._claim('stripe', state.status) = 0 then
    return 'ignored';
  elsif v_old.provider_subscription_id is distinct from state.provider_subscription_id and v_old.id is not null then
    v_verdict := billing._rival_verdict(v_old, state);
    if v_verdict = 'holder' then
      return 'ignored';
    elsif billing._claim(v_old.provider, v_old.status) = 3 and v_old.provider = 'stripe' and not holder_is_fresh then
      return 'contested';
    elsif v_verdict = 'surplus' then
      perform billing._note_surplus(state.workspace_id, v_app, state.provider_subscription_id,
        v_old.provider_subscription_id);
      return 'surplus';
    elsif billing._claim(v_old.provider, v_old.status) in (1, 3) then
      perform billing._note_surplus(state.workspace_id, v_app, v_old.provider_subscription_id,
        state.provider_subscription_id);
    end if;
  end if;
  v_new := billing._write_subscription(v_old, state);
  perform billing._settle_changes(v_old, v_new, state);
  perform billing._announce_subscription(v_old, v_new);
  return 'applied';
end $$;
comment on function billing._place_subscription is 'Applies a state, unless another subscription holds the place.';
revoke all on function billing._place_subscription from public, anon, authenticated, service_role;

-- Applies an answer of the provider to a question whose ticket was taken before it was asked. outcome: applied;
-- stale (a later answer has been applied); contested (holder is to be looked at first, then this one again with
-- holder_is_fresh); surplus (bought twice, a job undoes it); ignored (not ours, or of no effect). again: something
-- happened since the look of the job began. Errors: unknown_provider_price.
create function billing.apply_subscription(ticket bigint, subscription jsonb, holder_is_fresh boolean default false)
returns table (outcome text, again boolean, holder text)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_state billing.subscription_state := billing._read_subscription(subscription);
  v_look billing.subscription_looks;
begin
  insert into billing.subscription_looks (provider_subscription_id) values (v_state.provider_subscription_id)
  on conflict do nothing;
  select * into strict v_look from billing.subscription_looks l
  where l.provider = 'stripe' and l.provider_subscription_id = v_state.provider_subscription_id for update;
  again := v_look.wanted;
  outcome := case when v_look.ticket >= ticket then 'stale' when v_state.workspace_id is null then 'ignored'
    else billing._place_subscription(v_state, holder_is_fresh) end;
  if outcome = 'contested' then
    holder := (select s.provider_subscription_id from billing.subscriptions s
      where s.workspace_id = v_state.workspace_id and s.app = v_state.app);
  else
    update billing.subscription_looks l
    set job_id = case when l.wanted then l.job_id end, workspace_id = v_state.workspace_id,
      error = case when v_state.plan_price_id is null and outcome = 'applied'
        then 'unknown_provider_price: ' || v_state.price_id end,
      ticket = greatest(l.ticket, apply_subscription.ticket),
      looked_at = case when outcome = 'stale' then l.looked_at else private.now() end,
      next_look_at = case when outcome = 'stale' then l.next_look_at
        when v_state.workspace_id is not null then billing._next_look(v_state) end
    where l.provider = 'stripe' and l.provider_subscription_id = v_state.provider_subscription_id;
  end if;
  return next;
end $$;
comment on function billing.apply_subscription is
  'Applies the provider''s answer about a subscription, unless a later one has been applied.';
revoke all on function billing.apply_subscription from public, anon, authenticated, service_role;
grant execute on function billing.apply_subscription to service_role;

-- A subscription that comes in by another way, such as an import, is looked at as well.
create function private.watch_subscription() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into billing.subscription_looks (provider_subscription_id, workspace_id, next_look_at)
  values (new.provider_subscription_id, new.workspace_id, private.now())
  on conflict do nothing;
  return null;
end $$;
comment on function private.watch_subscription() is 'Trigger: has a new subscription of the provider looked at.';
revoke all on function private.watch_subscription from public, anon, authenticated, service_role;
create trigger subscriptions_watch after insert or update of provider_subscription_id on billing.subscriptions
  for each row when (new.provider = 'stripe' and new.provider_subscription_id is not null)
  execute function private.watch_subscription();

-- Sweep: looks at what is due. A look that fails is due again in an hour.
create function billing.look_at_due_subscriptions() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_look record;
  v_asked integer := 0;
begin
  for v_look in
    select l.provider_subscription_id from billing.subscription_looks l
    where l.next_look_at <= private.now() and l.provider = 'stripe'
    order by l.next_look_at limit 500 for update skip locked
  loop
    update billing.subscription_looks l set next_look_at = private.now() + interval '1 hour'
    where l.provider = 'stripe' and l.provider_subscription_id = v_look.provider_subscription_id;
    v_asked := v_asked + billing.look_at_subscription(v_look.provider_subscription_id)::integer;
  end loop;
  return v_asked;
end $$;
comment on function billing.look_at_due_subscriptions() is
  'Sweep: has up to 500 subscriptions looked at whose time has come; returns how many jobs it made.';
revoke all on function billing.look_at_due_subscriptions from public, anon, authenticated, service_role;
grant execute on function billing.look_at_due_subscriptions to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('look at subscriptions', 'billing.look_at_due_subscriptions', interval '1 minute');
