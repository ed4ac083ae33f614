-- History and statements: the ledger of a workspace a transaction a line, with the balances after it, in pages. All
-- of it is read with the caller's own rights. Statements follow the order of the books: a transaction belongs to the
-- days in which it was booked (created_at), so a statement of days that are over never changes.

create type billing.ledger_line as (
  transaction_id bigint, kind text, reason text, meter text, quantity numeric, usage_event_id uuid, payment_id uuid,
  user_id uuid, available_change_micro bigint, held_change_micro bigint, available_micro bigint, held_micro bigint,
  event_at timestamptz, created_at timestamptz
);

-- What a workspace had, available and held, before a transaction. An account's last entry is found by a range of both
-- columns of the index: asked for by equality, the planner may prefer to walk back through everybody's entries.
create function billing._balances_before(workspace_id uuid, transaction_id bigint)
returns table (available_micro bigint, held_micro bigint)
language sql stable
set search_path = ''
as $$
  select coalesce(sum(l.balance_after_micro) filter (where a.code <> 'held'), 0)::bigint,
    coalesce(sum(l.balance_after_micro) filter (where a.code = 'held'), 0)::bigint
  from billing.ledger_accounts a
  cross join lateral (
    select e.balance_after_micro from billing.ledger_entries e
    where e.account_id >= a.id and (e.account_id, e.transaction_id) < (a.id, _balances_before.transaction_id)
    order by e.account_id desc, e.transaction_id desc limit 1
  ) l
  where a.workspace_id = _balances_before.workspace_id
$$;
comment on function billing._balances_before(uuid, bigint) is
  'What a workspace had, available and held, before a transaction; micro-units.';
revoke all on function billing._balances_before from public, anon, authenticated, service_role;
grant execute on function billing._balances_before to authenticated, service_role;

-- The lines of transactions of one workspace that follow each other, in order of their ids.
create function billing._ledger_lines(workspace_id uuid, ids bigint[]) returns setof billing.ledger_line
language sql stable
set search_path = ''
as $$
  select t.id, t.kind, t.reason, m.slug, u.quantity, t.usage_event_id, t.payment_id, u.user_id, c.available::bigint,
    c.held::bigint,
    (b.available_micro + sum(c.available) over w)::bigint, (b.held_micro + sum(c.held) over w)::bigint, t.event_at,
    t.created_at
  from billing._balances_before(_ledger_lines.workspace_id, (select min(i) from unnest(ids) i)) b
  cross join billing.ledger_transactions t
  cross join lateral (
    select coalesce(sum(e.amount_micro) filter (where a.code <> 'held'), 0) as available,
      coalesce(sum(e.amount_micro) filter (where a.code = 'held'), 0) as held
    from billing.ledger_entries e
    join billing.ledger_accounts a on a.id = e.account_id and a.workspace_id = t.workspace_id
    where e.transaction_id = t.id
  ) c
  left join billing.usage_events u on u.id = t.usage_event_id
  left join billing.meters m on m.id = u.meter_id
  where t.workspace_id = _ledger_lines.workspace_id and t.id = any (ids)
  window w as (order by t.id)
  order by t.id
$$;
comment on function billing._ledger_lines(uuid, bigint[]) is
  'Transactions of a workspace with the balances after each.';
revoke all on function billing._ledger_lines from public, anon, authenticated, service_role;
grant execute on function billing._ledger_lines to authenticated, service_role;

create function billing._check_page(most integer) returns void
language plpgsql
set search_path = ''
as $$
begin
  if most is null or most not between 1 and 1000 then
    perform private.fail('invalid_argument', 'most must be between 1 and 1000.', '{"argument": "most"}');
  end if;
end $$;
comment on function billing._check_page(integer) is 'Refuses a page of no lines or of more than 1000.';
revoke all on function billing._check_page from public, anon, authenticated, service_role;
grant execute on function billing._check_page to authenticated, service_role;

-- The movements of a workspace's credits, newest first, with the balances after each. The next page: before the
-- transaction_id of the last line. Errors: unknown_workspace, invalid_argument.
create function billing.history(workspace_id uuid, before bigint default null, most integer default 50)
returns setof billing.ledger_line
language plpgsql stable
set search_path = ''
as $$
begin
  perform private.require_role(workspace_id, 'viewer');
  perform billing._check_page(most);
  return query
  select l.* from billing._ledger_lines(history.workspace_id, array(
    select t.id from billing.ledger_transactions t
    where t.workspace_id = history.workspace_id and t.id < coalesce(before, 9223372036854775807)
    order by t.id desc limit most)) l
  order by l.transaction_id desc;
end $$;
comment on function billing.history is
  'Movements of a workspace''s credits with the balances after each, newest first, in pages; micro-units.';
revoke all on function billing.history from public, anon, authenticated, service_role;
grant execute on function billing.history to authenticated, service_role;

-- The first transaction of a workspace that was booked at a moment or later, in the order of the books; null: there
-- is none. A workspace's transactions get their ids one after the other, and their times but for how long each
-- waited for its turn; so the books are halved, as by an index of the time, down to five minutes before the moment.
create function billing._first_transaction(workspace_id uuid, at_time timestamptz) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  v_low bigint := 0;
  v_high bigint := (select max(t.id) from billing.ledger_transactions t
    where t.workspace_id = _first_transaction.workspace_id);
  v_middle bigint;
  v_found record;
begin
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low) / 2;
    select t.id, t.created_at into v_found from billing.ledger_transactions t
    where t.workspace_id = _first_transaction.workspace_id and t.id >= v_middle order by t.id limit 1;
    if v_found.created_at >= at_time - interval '5 minutes' then
      v_high := v_middle;
    else
      v_low := v_found.id + 1;
    end if;
  end loop;
  return (select t.id from billing.ledger_transactions t
    where t.workspace_id = _first_transaction.workspace_id and t.id >= v_low and t.created_at >= at_time
    order by t.id limit 1);
end $$;
comment on function billing._first_transaction(uuid, timestamptz) is
  'The first transaction of a workspace booked at a moment or later.';
revoke all on function billing._first_transaction from public, anon, authenticated, service_role;
grant execute on function billing._first_transaction to authenticated, service_role;

create type billing.statement as (
  workspace_id uuid, from_at timestamptz, to_at timestamptz, timezone text, opening_available_micro bigint,
  opening_held_micro bigint, closing_available_micro bigint, closing_held_micro bigint, transactions bigint,
  movements jsonb
);

-- A statement of the days from_day to to_day (both included; by default the last 30): what there was, what moved by
-- kind ([{kind, transactions, available_change_micro, held_change_micro}]), what there is. One ends where the next
-- begins. Errors: unknown_workspace, invalid_argument, invalid_timezone.
create function billing.statement(workspace_id uuid, from_day date default null, to_day date default null,
  timezone text default null)
returns billing.statement
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_statement billing.statement;
  v_first bigint;
  v_next bigint;
begin
  perform private.require_role(statement.workspace_id, 'viewer');
  v_statement.workspace_id := statement.workspace_id;
  v_statement.timezone := billing._timezone(statement.workspace_id, statement.timezone);
  select r.from_at, r.to_at into v_statement.from_at, v_statement.to_at
  from billing._day_range(from_day, to_day, v_statement.timezone) r;
  v_first := coalesce(billing._first_transaction(statement.workspace_id, v_statement.from_at), 9223372036854775807);
  v_next := coalesce(billing._first_transaction(statement.workspace_id, v_statement.to_at), 9223372036854775807);
  select b.available_micro, b.held_micro into v_statement.opening_available_micro, v_statement.opening_held_micro
  from billing._balances_before(statement.workspace_id, v_first) b;
  select b.available_micro, b.held_micro into v_statement.closing_available_micro, v_statement.closing_held_micro
  from billing._balances_before(statement.workspace_id, v_next) b;
  select coalesce(sum(k.transactions), 0), coalesce(jsonb_agg(to_jsonb(k) order by k.kind), '[]')
  into v_statement.transactions, v_statement.movements
  from (
    select t.kind, count(distinct t.id) as transactions,
      coalesce(sum(e.amount_micro) filter (where a.code <> 'held'), 0)::bigint as available_change_micro,
      coalesce(sum(e.amount_micro) filter (where a.code = 'held'), 0)::bigint as held_change_micro
    from billing.ledger_transactions t
    left join (billing.ledger_entries e join billing.ledger_accounts a on a.id = e.account_id
      and a.workspace_id = statement.workspace_id) on e.transaction_id = t.id
    where t.workspace_id = statement.workspace_id and t.id >= v_first and t.id < v_next
    group by t.kind
  ) k;
  return v_statement;
end $$;
comment on function billing.statement is
  'Opening balance, movements by kind and closing balance of a workspace over days of a time zone; micro-units.';
revoke all on function billing.statement from public, anon, authenticated, service_role;
grant execute on function billing.statement to authenticated, service_role;

-- The lines of a statement, oldest first. The next page: after the transaction_id of the last line.
-- Errors: unknown_workspace, invalid_argument, invalid_timezone.
create function billing.statement_lines(workspace_id uuid, from_day date default null, to_day date default null,
  timezone text default null, after bigint default null, most integer default 500)
returns setof billing.ledger_line
language plpgsql stable
set search_path = ''
as $$
declare
  v_range record;
  v_first bigint;
  v_next bigint;
begin
  perform private.require_role(workspace_id, 'viewer');
  perform billing._check_page(most);
  select r.* into v_range from billing._day_range(from_day, to_day,
    billing._timezone(statement_lines.workspace_id, statement_lines.timezone)) r;
  v_first := coalesce(after + 1, billing._first_transaction(workspace_id, v_range.from_at));
  v_next := coalesce(billing._first_transaction(workspace_id, v_range.to_at), 9223372036854775807);
  return query
  select l.* from billing._ledger_lines(statement_lines.workspace_id, array(
    select t.id from billing.ledger_transactions t
    where t.workspace_id = statement_lines.workspace_id and t.id >= v_first and t.id < v_next
    order by t.id limit most)) l;
end $$;
comment on function billing.statement_lines is
  'Movements of a statement with the balances after each, oldest first, in pages; micro-units.';
revoke all on function billing.statement_lines from public, anon, authenticated, service_role;
grant execute on function billing.statement_lines to authenticated, service_role;

-- The charges that were booked on the days from_day to to_day, oldest first, whatever became of them. The next
-- page: after created_at and usage_event_id of the last line. Errors: as statement_lines.
create function billing.usage_lines(workspace_id uuid, from_day date default null, to_day date default null,
  timezone text default null, after timestamptz default null, after_id uuid default null, most integer default 500)
returns table (usage_event_id uuid, created_at timestamptz, event_at timestamptz, completed_at timestamptz,
  status text, meter text, quantity numeric, amount_micro bigint, captured_micro bigint, refunded_micro bigint,
  cost_micro bigint, user_id uuid, source text, source_id text, plan_slug text, reason text)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_range record;
begin
  perform private.require_role(usage_lines.workspace_id, 'viewer');
  perform billing._check_page(most);
  select r.* into v_range from billing._day_range(from_day, to_day,
    billing._timezone(usage_lines.workspace_id, usage_lines.timezone)) r;
  return query
  select e.id, e.created_at, e.event_at, e.completed_at, e.status, m.slug, e.quantity, e.amount_micro, e.captured_micro,
    e.refunded_micro, e.captured_micro - e.refunded_micro, e.user_id, e.source_platform, e.source_id, e.plan_slug,
    e.reason
  from billing.usage_events e
  left join billing.meters m on m.id = e.meter_id
  where e.workspace_id = usage_lines.workspace_id and e.created_at < v_range.to_at
    and e.created_at >= greatest(v_range.from_at, after)
    and (after is null or (e.created_at, e.id) > (after, after_id))
  order by e.created_at, e.id limit most;
end $$;
comment on function billing.usage_lines is
  'Charges of a workspace over days of a time zone, oldest first, in pages; micro-units.';
revoke all on function billing.usage_lines from public, anon, authenticated, service_role;
grant execute on function billing.usage_lines to authenticated, service_role;
