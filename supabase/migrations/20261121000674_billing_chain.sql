-- A hash chain for each workspace's ledger. A charge pays nothing for it: a sweep seals what has come since, in order
-- of the transactions' ids, which is the order of booking within a workspace because the wallet's lock is held. Whoever
-- changes, adds or takes away a sealed amount breaks the chain; whoever also rewrites the chain has another head than
-- the one that an earlier proof wrote down.

create table billing.ledger_chain (
  workspace_id uuid not null,
  position integer not null,
  last_transaction_id bigint not null,
  transactions integer not null,
  head bytea not null,
  created_at timestamptz not null default now(),
  constraint ledger_chain_pkey primary key (workspace_id, position),
  constraint ledger_chain_holds_something check (position > 0 and transactions > 0 and length(head) = 32)
);
comment on table billing.ledger_chain is
  'Links that seal a workspace''s ledger: each head is the hash of the one before and of the transactions since.';
create index ledger_chain_created_at on billing.ledger_chain (created_at);
create trigger ledger_chain_immutable before update or delete on billing.ledger_chain
  for each row execute function private.forbid_change();
create trigger ledger_chain_not_truncated before truncate on billing.ledger_chain
  for each statement execute function private.forbid_change();
alter table billing.ledger_chain enable row level security;
create policy "Members may read their workspace's chain" on billing.ledger_chain for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.ledger_chain from public, anon, authenticated, service_role;
grant select on table billing.ledger_chain to authenticated, service_role;

-- How far the chains reach. Ids are given before they commit: those up to pending_id are all there, or never will be,
-- once every transaction that was under way at pending_xmax has ended.
create table billing.chain_mark (
  id boolean primary key default true,
  sealed_id bigint not null default 0,
  pending_id bigint not null default 0,
  pending_xmax xid8 not null default '0',
  created_at timestamptz not null default now(),
  constraint chain_mark_one_row check (id),
  constraint chain_mark_in_order check (sealed_id <= pending_id)
);
comment on table billing.chain_mark is 'Up to which transaction the hash chains reach.';
alter table billing.chain_mark enable row level security;
revoke all on table billing.chain_mark from public, anon, authenticated, service_role;
grant select on table billing.chain_mark to service_role;
insert into billing.chain_mark default values;

-- The hash that follows a head: of the workspace's transactions after one id up to another, with their entries and, of
-- those that made a charge, what was measured and its price. Nulls: the chain begins.
create function billing._chain_head(head bytea, workspace_id uuid, after_id bigint, upto_id bigint,
  out next_head bytea, out transactions integer, out last_id bigint)
language plpgsql stable
set search_path = ''
set bytea_output = 'hex'
as $$
begin
  select sha256(coalesce(head, '') || string_agg(sha256(convert_to(row(t.id, t.workspace_id, t.kind, t.key,
      t.content_hash, t.usage_event_id, t.payment_id, t.reason, t.metadata, t.correlation_id,
      extract(epoch from t.event_at), extract(epoch from t.created_at), (
        select string_agg(row(e.line, e.account_id, e.lot_id, e.amount_micro, e.balance_after_micro)::text, ';'
          order by e.line)
        from billing.ledger_entries e where e.transaction_id = t.id
      ), case when t.kind in ('authorize', 'adjust') then (
        select row(u.meter_id, u.quantity, u.unit_amount_micro, u.amount_micro, u.key, u.content_hash, u.corrects_id,
          u.metadata, extract(epoch from u.event_at), extract(epoch from u.created_at))::text
        from billing.usage_events u where u.id = t.usage_event_id
      ) end)::text, 'UTF8')), ''::bytea order by t.id)), count(*), max(t.id)
  into next_head, transactions, last_id
  from billing.ledger_transactions t
  where t.workspace_id = _chain_head.workspace_id and t.id <= upto_id
    and t.id > coalesce(after_id, -9223372036854775808);
end $$;
comment on function billing._chain_head is 'The head that seals a range of a workspace''s transactions.';
revoke all on function billing._chain_head from public, anon, authenticated, service_role;

-- Sweep: seals what was booked before the last sweep, up to 500,000 transactions. Returns how many links it added.
create function billing.extend_chain() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_mark billing.chain_mark;
  v_upto bigint;
  v_links integer := 0;
  v_last bigint;
begin
  select * into v_mark from billing.chain_mark m for update skip locked;
  if not found then
    return 0;
  end if;
  if pg_snapshot_xmin(pg_current_snapshot()) >= v_mark.pending_xmax and v_mark.sealed_id < v_mark.pending_id then
    v_upto := least(v_mark.pending_id, v_mark.sealed_id + 500000);
    insert into billing.ledger_chain (workspace_id, position, last_transaction_id, transactions, head)
    select w.workspace_id, coalesce(l.position, 0) + 1, n.last_id, n.transactions, n.next_head
    from (select distinct t.workspace_id from billing.ledger_transactions t
      where t.id > v_mark.sealed_id and t.id <= v_upto) w
    left join lateral (select * from billing.ledger_chain c where c.workspace_id = w.workspace_id
      order by c.position desc limit 1) l on true
    cross join lateral billing._chain_head(l.head, w.workspace_id, l.last_transaction_id, v_upto) n;
    get diagnostics v_links = row_count;
    v_mark.sealed_id := v_upto;
  end if;
  if v_mark.sealed_id = v_mark.pending_id then
    -- first the ids, then who is under way: every id up to here belongs to a transaction that has begun
    select s.last_value into v_last from billing.ledger_transactions_id_seq s where s.is_called;
    v_mark.pending_id := coalesce(v_last, v_mark.sealed_id);
    v_mark.pending_xmax := pg_snapshot_xmax(pg_current_snapshot());
  end if;
  update billing.chain_mark m
  set sealed_id = v_mark.sealed_id, pending_id = v_mark.pending_id, pending_xmax = v_mark.pending_xmax;
  return v_links;
end $$;
comment on function billing.extend_chain() is 'Sweep: seals new ledger transactions; returns how many links it added.';
revoke all on function billing.extend_chain from public, anon, authenticated, service_role;
grant execute on function billing.extend_chain to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('seal the ledger', 'billing.extend_chain', interval '10 minutes');

-- Recomputes the chains, all links or those made since a time. A row for each link that does not follow, and for each
-- transaction that was slipped in behind the seal.
create function billing.verify_chain(since timestamptz default null)
returns table (fault text, workspace_id uuid, subject text)
language sql stable security definer
set search_path = ''
as $$
  select 'chain broken', l.workspace_id, l.position::text
  from billing.ledger_chain l
  left join billing.ledger_chain p on p.workspace_id = l.workspace_id and p.position = l.position - 1
  cross join lateral billing._chain_head(p.head, l.workspace_id, p.last_transaction_id, l.last_transaction_id) n
  where (verify_chain.since is null or l.created_at >= verify_chain.since)
    and (n.next_head, n.transactions, n.last_id) is distinct from (l.head, l.transactions, l.last_transaction_id)
  union all
  select 'transaction outside the chain', t.workspace_id, t.id::text
  from billing.wallets w
  cross join billing.chain_mark m
  left join lateral (select c.last_transaction_id from billing.ledger_chain c where c.workspace_id = w.workspace_id
    order by c.position desc limit 1) l on true
  join billing.ledger_transactions t on t.workspace_id = w.workspace_id
    and t.id > coalesce(l.last_transaction_id, -9223372036854775808) and t.id <= m.sealed_id
$$;
comment on function billing.verify_chain is
  'Recomputes the hash chains of the ledger; a row for each fault, none when nothing was changed.';
revoke all on function billing.verify_chain from public, anon, authenticated, service_role;
grant execute on function billing.verify_chain to service_role;
