-- The proof that runs each night, and what it found.

create table billing.ledger_proofs (
  id bigint generated always as identity primary key,
  transactions bigint not null,
  faults integer not null,
  first_faults jsonb not null default '[]',
  heads_hash bytea,
  began_at timestamptz not null,
  ended_at timestamptz not null,
  constraint ledger_proofs_in_order check (faults >= 0 and began_at <= ended_at)
);
comment on table billing.ledger_proofs is
  'Each nightly proof of the ledger: how many transactions, what was at fault, a hash of all chain heads.';
comment on column billing.ledger_proofs.first_faults is 'Up to 100 of the faults.';
comment on column billing.ledger_proofs.heads_hash is
  'SHA-256 over the heads of all chains, to be kept elsewhere too; null: nothing is sealed yet.';
create trigger ledger_proofs_immutable before update or delete on billing.ledger_proofs
  for each row execute function private.forbid_change();
alter table billing.ledger_proofs enable row level security;
revoke all on table billing.ledger_proofs from public, anon, authenticated, service_role;
grant select on table billing.ledger_proofs to service_role;

-- Sweep: proves the whole ledger and its chains, finds holds that nothing will settle (billing.idle_holds, which comes
-- after all that holds), writes down what it found, and puts faults into the audit log as critical. Returns how many
-- faults there are.
create function billing.prove_ledger() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_began timestamptz := clock_timestamp();
  v_faults integer;
  v_first jsonb;
  v_proof bigint;
begin
  with found as (
    select v.fault, v.workspace_id, v.subject, v.expected_micro, v.actual_micro from billing.verify_ledger() v
    union all
    select c.fault, c.workspace_id, c.subject, null, null from billing.verify_chain() c
    union all
    select 'idle hold: ' || i.cause, i.workspace_id, i.usage_event_id::text, 0, i.amount_micro
    from billing.idle_holds i
  ), numbered as (
    select f.*, row_number() over () as n from found f
  )
  select count(*), coalesce(jsonb_agg(to_jsonb(l) - 'n' order by l.n) filter (where l.n <= 100), '[]')
  into v_faults, v_first from numbered l;
  insert into billing.ledger_proofs (transactions, faults, first_faults, heads_hash, began_at, ended_at)
  select (select count(*) from billing.ledger_transactions), v_faults, v_first,
    (select sha256(string_agg(c.head, ''::bytea order by c.workspace_id, c.position)) from billing.ledger_chain c),
    v_began, clock_timestamp()
  returning id into v_proof;
  if v_faults > 0 then
    insert into ops.audit_log (event_id, action, resource, target_id, status, error_message, risk_level, metadata)
    values ('ledger_proof:' || v_proof, 'billing.ledger.fault', 'billing.ledger_proofs', v_proof::text, 'failure',
      format('%s faults in the ledger', v_faults), 'critical', jsonb_build_object('first', v_first -> 0));
  end if;
  return v_faults;
end $$;
comment on function billing.prove_ledger() is 'Sweep: proves the ledger and records the result; returns the faults.';
revoke all on function billing.prove_ledger from public, anon, authenticated, service_role;
grant execute on function billing.prove_ledger to service_role;
insert into ops.sweeps (name, function_name, every, is_long) values
  ('prove the ledger', 'billing.prove_ledger', interval '1 day', true);
