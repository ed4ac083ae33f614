-- Invoices. Ours are issued with the payment and are numbered without gaps by workspace, series and year: the number
-- is taken in the transaction that issues, from a row of the workspace's own, so nobody waits for another tenant.
-- Those of subscriptions are Stripe's, with its number and its pages.

create table billing.invoice_settings (
  workspace_id uuid primary key,
  prefix text not null default upper(left(replace(gen_random_uuid()::text, '-', ''), 8)),
  billing_name text,
  billing_email text,
  billing_address text,
  tax_id text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint invoice_settings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint invoice_settings_prefix_key unique (prefix),
  constraint invoice_settings_prefix_shape check (prefix ~ '^[0-9A-F]{8}$'),
  constraint invoice_settings_lengths check (length(billing_name) <= 200 and length(billing_email) <= 320
    and length(billing_address) <= 1000 and length(tax_id) <= 50)
);
comment on table billing.invoice_settings is
  'To whom a workspace''s invoices are made out, and the prefix of their numbers.';
create trigger invoice_settings_touch before update on billing.invoice_settings for each row
  execute function private.touch_updated_at();
alter table billing.invoice_settings enable row level security;
create policy "Members may read their workspace's invoice settings" on billing.invoice_settings for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.invoice_settings from public, anon, authenticated, service_role;
grant select on table billing.invoice_settings to authenticated, service_role;

create table billing.invoice_sequences (
  workspace_id uuid not null,
  series text not null,
  year smallint not null,
  last_number integer not null,
  created_at timestamptz not null default now(),
  constraint invoice_sequences_pkey primary key (workspace_id, series, year),
  constraint invoice_sequences_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint invoice_sequences_series_known check (series in ('INV', 'CN')),
  constraint invoice_sequences_number_positive check (last_number > 0)
);
comment on table billing.invoice_sequences is 'The last number given out in a workspace''s series and year.';
alter table billing.invoice_sequences enable row level security;
revoke all on table billing.invoice_sequences from public, anon, authenticated, service_role;
grant select on table billing.invoice_sequences to service_role;

create table billing.invoices (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  kind text not null default 'invoice',
  number text not null,
  series text,
  year smallint,
  sequence integer,
  status text not null,
  payment_id uuid,
  refund_id uuid,
  provider text,
  provider_invoice_id text,
  provider_payment_id text,
  currency text not null,
  total_minor bigint not null,
  tax_minor bigint not null default 0,
  credits_micro bigint not null default 0,
  lines jsonb not null default '[]',
  customer jsonb not null default '{}',
  receipt_url text,
  hosted_url text,
  pdf_url text,
  pdf_path text,
  issued_at timestamptz not null,
  paid_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint invoices_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint invoices_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint invoices_refund_id_fkey foreign key (refund_id) references billing.payment_refunds (id),
  constraint invoices_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint invoices_sequence_key unique (workspace_id, series, year, sequence),
  constraint invoices_number_key unique (number),
  constraint invoices_refund_key unique (refund_id),
  constraint invoices_provider_key unique (provider, provider_invoice_id),
  constraint invoices_kind_known check (kind in ('invoice', 'credit_note')),
  constraint invoices_status_known check (status in ('open', 'paid', 'void', 'uncollectible', 'refunded')),
  constraint invoices_ours_is_numbered check ((series is null) = (sequence is null)
    and (series is null) = (year is null) and (series is null) = (provider_invoice_id is not null)),
  constraint invoices_note_has_refund check ((kind = 'credit_note') = (refund_id is not null)),
  constraint invoices_amounts_not_negative check (total_minor >= 0 and tax_minor between 0 and total_minor
    and credits_micro >= 0)
);
comment on table billing.invoices is
  'Invoices and credit notes: ours with a PDF in the bucket billing-documents, Stripe''s with its pages.';
comment on column billing.invoices.total_minor is 'With tax, in minor units; a credit note''s is what was given back.';
create unique index invoices_payment_key on billing.invoices (payment_id) where kind = 'invoice';
create index invoices_payment_id on billing.invoices (payment_id);
create index invoices_workspace_id on billing.invoices (workspace_id, issued_at desc);
create index invoices_currency on billing.invoices (currency);
create trigger invoices_touch before update on billing.invoices for each row
  execute function private.touch_updated_at();
alter table billing.invoices enable row level security;
create policy "Members may read their workspace's invoices" on billing.invoices for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.invoices from public, anon, authenticated, service_role;
grant select on table billing.invoices to authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.render_invoice', 'Writes an invoice''s PDF into the bucket billing-documents.', null, null);
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('billing-documents', 'billing-documents', false, 1048576, array['application/pdf'])
on conflict (id) do nothing;
create policy "Members may read their workspace's billing documents" on storage.objects for select to authenticated
  using (bucket_id = 'billing-documents'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('viewer'))::uuid[]));

-- A workspace's settings, made when first needed.
create function billing._invoice_settings(workspace_id uuid) returns billing.invoice_settings
language plpgsql
set search_path = ''
as $$
declare
  v_settings billing.invoice_settings;
begin
  loop
    select * into v_settings from billing.invoice_settings s where s.workspace_id = _invoice_settings.workspace_id;
    exit when found;
    -- a prefix that another workspace has is drawn again
    insert into billing.invoice_settings (workspace_id) values (workspace_id) on conflict do nothing;
  end loop;
  return v_settings;
end $$;
comment on function billing._invoice_settings(uuid) is 'A workspace''s invoice settings, made when there are none.';
revoke all on function billing._invoice_settings from public, anon, authenticated, service_role;

-- Issues an invoice, or a credit note for a refund, with the next number of its series. The row of the sequence is
-- locked until the transaction ends: one that fails gives its number back.
create function billing._issue_invoice(payment billing.payments, series text, total_minor bigint, credits_micro bigint,
  description text, refund_id uuid default null) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_settings billing.invoice_settings := billing._invoice_settings(payment.workspace_id);
  v_year smallint := extract(year from private.now() at time zone 'UTC');
  v_sequence integer;
  v_id uuid;
begin
  insert into billing.invoice_sequences as s (workspace_id, series, year, last_number)
  values (payment.workspace_id, series, v_year, 1)
  on conflict on constraint invoice_sequences_pkey do update set last_number = s.last_number + 1
  returning s.last_number into v_sequence;
  insert into billing.invoices (workspace_id, kind, number, series, year, sequence, status, payment_id, refund_id,
    provider, provider_payment_id, currency, total_minor, credits_micro, lines, customer, receipt_url, issued_at,
    paid_at)
  values (payment.workspace_id, case series when 'CN' then 'credit_note' else 'invoice' end,
    format('%s-%s-%s-%s', series, v_year, v_settings.prefix, to_char(v_sequence, 'FM0000')), series, v_year,
    v_sequence, 'paid', payment.id, refund_id, payment.provider, payment.provider_payment_id, payment.currency,
    total_minor, credits_micro,
    jsonb_build_array(jsonb_build_object('description', description, 'quantity', 1, 'amount_minor', total_minor)),
    jsonb_strip_nulls(jsonb_build_object('name', coalesce(v_settings.billing_name,
      (select w.name from identity.workspaces w where w.id = payment.workspace_id)),
      'email', v_settings.billing_email, 'address', v_settings.billing_address, 'tax_id', v_settings.tax_id)),
    payment.receipt_url, private.now(), private.now())
  returning id into v_id;
  perform ops.enqueue_job('billing.render_invoice', jsonb_build_object('invoice_id', v_id), payment.workspace_id,
    max_attempts => 10, key => 'render_invoice:' || v_id);
  return v_id;
end $$;
comment on function billing._issue_invoice is 'Issues an invoice or credit note with the next number of its series.';
revoke all on function billing._issue_invoice from public, anon, authenticated, service_role;

create function private.document_payment() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if old.paid_at is null and new.paid_at is not null then
    perform billing._issue_invoice(new, 'INV', new.amount_minor, new.credits_micro,
      case new.kind when 'auto_reload' then 'Automatic reload of credits'
        when 'subscription' then (select p.name from billing.plans p where p.id = new.plan_id)
        else (select p.name from billing.credit_packages p where p.id = new.credit_package_id) end);
  else
    update billing.invoices i set receipt_url = coalesce(new.receipt_url, i.receipt_url),
      status = case new.status when 'refunded' then 'refunded' else 'paid' end
    where i.payment_id = new.id and i.kind = 'invoice';
  end if;
  return null;
end $$;
comment on function private.document_payment() is
  'Trigger: a paid payment has an invoice, which follows its receipt and refunds.';
revoke all on function private.document_payment from public, anon, authenticated, service_role;
create trigger payments_document after update of paid_at, status, receipt_url on billing.payments for each row
  when (new.paid_at is not null) execute function private.document_payment();

create function private.document_refund() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if new.status = 'succeeded' then
    perform billing._issue_invoice(p, 'CN', new.amount_minor, new.taken_micro, 'Refund: ' || new.reason, new.id)
    from billing.payments p where p.id = new.payment_id;
  else
    update billing.invoices i set status = 'void' where i.refund_id = new.id;
  end if;
  return null;
end $$;
comment on function private.document_refund() is 'Trigger: a refund has a credit note, void when the bank returned it.';
revoke all on function private.document_refund from public, anon, authenticated, service_role;
create trigger payment_refunds_document after update of status on billing.payment_refunds for each row
  when (old.status <> new.status) execute function private.document_refund();

-- Where an invoice's PDF lies, noted by the worker.
create function billing.note_invoice_pdf(invoice_id uuid, path text) returns void
language sql security definer
set search_path = ''
as $$ update billing.invoices i set pdf_path = path where i.id = invoice_id $$;
comment on function billing.note_invoice_pdf(uuid, text) is 'Notes where an invoice''s PDF lies in the bucket.';
revoke all on function billing.note_invoice_pdf from public, anon, authenticated, service_role;
grant execute on function billing.note_invoice_pdf to service_role;

create function private.set_billing_details(workspace_id uuid, name text, email text, address text, tax_id text)
returns billing.invoice_settings
language plpgsql security definer
set search_path = ''
as $$
declare
  v_settings billing.invoice_settings;
  v_long record;
begin
  perform private.require_role(workspace_id, 'admin');
  select d.argument, d.most into v_long
  from (values ('name', name, 200), ('email', email, 320), ('address', address, 1000), ('tax_id', tax_id, 50))
    as d (argument, value, most)
  where length(d.value) > d.most limit 1;
  if found then
    perform private.fail('invalid_argument', format('%s has at most %s characters.', v_long.argument, v_long.most),
      jsonb_build_object('argument', v_long.argument));
  end if;
  v_settings := billing._invoice_settings(workspace_id);
  update billing.invoice_settings s
  set billing_name = name, billing_email = email, billing_address = address, tax_id = set_billing_details.tax_id
  where s.workspace_id = set_billing_details.workspace_id
  returning * into v_settings;
  return v_settings;
end $$;
comment on function private.set_billing_details is 'Core of billing.set_billing_details; checks the caller first.';
revoke all on function private.set_billing_details from public, anon, authenticated, service_role;
grant execute on function private.set_billing_details to authenticated, service_role;

-- To whom the invoices from now on are made out. Admins may. Errors: unknown_workspace, role_too_low,
-- invalid_argument.
create function billing.set_billing_details(workspace_id uuid, name text, email text default null,
  address text default null, tax_id text default null) returns billing.invoice_settings
language sql
set search_path = ''
as $$ select private.set_billing_details(workspace_id, name, email, address, tax_id) $$;
comment on function billing.set_billing_details is 'Sets to whom a workspace''s invoices are made out.';
revoke all on function billing.set_billing_details from public, anon, authenticated, service_role;
grant execute on function billing.set_billing_details to authenticated, service_role;

-- An invoice at Stripe, as its events show it: kept with Stripe's number and pages. What it was paid is a payment.
-- A draft has no number yet; an end (paid, void, uncollectible) is not undone by older news. An invoice of a
-- customer or subscription that we do not know is not ours.
create function billing._apply_invoice_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_invoice jsonb := event.payload -> 'data' -> 'object';
  v_subscription text := coalesce(v_invoice -> 'parent' -> 'subscription_details' ->> 'subscription',
    v_invoice ->> 'subscription');
  v_workspace uuid := coalesce(
    (select s.workspace_id from billing.subscriptions s where s.provider = 'stripe'
      and s.provider_subscription_id = v_subscription),
    (select w.workspace_id from billing.wallets w where w.provider_customer_id = v_invoice ->> 'customer'),
    (select s.workspace_id from billing.subscriptions s where s.provider = 'stripe'
      and s.provider_customer_id = v_invoice ->> 'customer' limit 1));
begin
  if v_workspace is null or v_invoice ->> 'number' is null or v_invoice ->> 'status' = 'draft' then
    return false;
  end if;
  insert into billing.invoices as i (workspace_id, number, status, provider, provider_invoice_id, currency, total_minor,
    lines, customer, hosted_url, pdf_url, issued_at, paid_at)
  select v_workspace, v_invoice ->> 'number', v_invoice ->> 'status', 'stripe', v_invoice ->> 'id',
    upper(v_invoice ->> 'currency'), greatest((v_invoice ->> 'total')::bigint, 0),
    coalesce((select jsonb_agg(jsonb_build_object('description', l ->> 'description',
      'quantity', coalesce((l ->> 'quantity')::numeric, 1), 'amount_minor', (l ->> 'amount')::bigint))
      from jsonb_array_elements(v_invoice -> 'lines' -> 'data') l), '[]'),
    jsonb_strip_nulls(jsonb_build_object('name', v_invoice ->> 'customer_name',
      'email', v_invoice ->> 'customer_email')),
    v_invoice ->> 'hosted_invoice_url', v_invoice ->> 'invoice_pdf',
    to_timestamp((coalesce(v_invoice -> 'status_transitions' ->> 'finalized_at', v_invoice ->> 'created'))::bigint),
    to_timestamp((v_invoice -> 'status_transitions' ->> 'paid_at')::bigint)
  on conflict on constraint invoices_provider_key do update
  set status = excluded.status, paid_at = excluded.paid_at, hosted_url = excluded.hosted_url,
    pdf_url = excluded.pdf_url
  where i.status in ('open', 'uncollectible') and excluded.status <> 'open';
  if v_invoice ->> 'status' = 'paid' and (v_invoice ->> 'amount_paid')::bigint > 0 then
    perform billing._record_subscription_payment(v_workspace, v_invoice, v_subscription);
  end if;
  return true;
end $$;
comment on function billing._apply_invoice_event(ops.webhook_events) is
  'Keeps an invoice of Stripe and what was paid on it.';
revoke all on function billing._apply_invoice_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name, position)
select t.event_type, 'billing._apply_invoice_event', 1 from unnest(array['invoice.finalized', 'invoice.updated',
  'invoice.paid', 'invoice.payment_failed', 'invoice.voided', 'invoice.marked_uncollectible']) as t (event_type);
