-- Knowledge stays true by itself: sources are read again on time and when products change, and what was not seen for
-- too long stops to count.

-- Statement by statement, because a shop's page of fifty products is one change. A minute's rest lets a sync pass.
-- A source that is locked is being noted, or read, by somebody else: whoever writes products never waits for it.
create function private.note_products_changed() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update ai.knowledge_sources s set changed_at = private.now(),
    next_verification_at = least(s.next_verification_at, private.now() + interval '1 minute')
  where s.id in (select k.id from ai.knowledge_sources k
    where k.source_type = 'products' and k.is_active and k.changed_at is null
      and k.workspace_id in (select n.workspace_id from new_rows n) for no key update skip locked);
  return null;
end $$;
comment on function private.note_products_changed() is 'Trigger: has the catalog''s knowledge source read again soon.';
revoke all on function private.note_products_changed from public, anon, authenticated, service_role;

create function private.note_products_updated() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update ai.knowledge_sources s set changed_at = private.now(),
    next_verification_at = least(s.next_verification_at, private.now() + interval '1 minute')
  where s.id in (select k.id from ai.knowledge_sources k
    where k.source_type = 'products' and k.is_active and k.changed_at is null
      and k.workspace_id in (select n.workspace_id from new_rows n join old_rows o on o.id = n.id
        where (n.sync_hash, n.status, n.deleted_at, n.price_min_cents, n.price_max_cents, n.currency)
          is distinct from (o.sync_hash, o.status, o.deleted_at, o.price_min_cents, o.price_max_cents, o.currency))
    for no key update skip locked);
  return null;
end $$;
comment on function private.note_products_updated() is 'Trigger: as note_products_changed, for what people read alone.';
revoke all on function private.note_products_updated from public, anon, authenticated, service_role;

create trigger note_new_products after insert on commerce.shopify_products
  referencing new table as new_rows for each statement execute function private.note_products_changed();
create trigger note_changed_products after update on commerce.shopify_products
  referencing new table as new_rows old table as old_rows for each statement
  execute function private.note_products_updated();
create trigger note_deleted_products after delete on commerce.shopify_products
  referencing old table as new_rows for each statement execute function private.note_products_changed();
create trigger note_new_products after insert on commerce.imported_products
  referencing new table as new_rows for each statement execute function private.note_products_changed();
create trigger note_changed_products after update on commerce.imported_products
  referencing new table as new_rows for each statement execute function private.note_products_changed();
create trigger note_deleted_products after delete on commerce.imported_products
  referencing old table as new_rows for each statement execute function private.note_products_changed();

create function ai.verify_due_knowledge() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_source ai.knowledge_sources;
  v_begun integer := 0;
begin
  for v_source in
    select * from ai.knowledge_sources s where s.is_active and s.next_verification_at <= private.now()
    order by s.next_verification_at limit 100 for no key update skip locked
  loop
    perform private.correlate_as(gen_random_uuid());
    perform private.start_ingestion(v_source.id,
      case when v_source.changed_at is not null then 'change' else 'verification' end);
    v_begun := v_begun + 1;
  end loop;
  perform private.correlate_as(null);
  return v_begun;
end $$;
comment on function ai.verify_due_knowledge() is 'Sweep: has up to a hundred sources read again whose time has come.';
revoke all on function ai.verify_due_knowledge from public, anon, authenticated, service_role;
grant execute on function ai.verify_due_knowledge to service_role;

create function ai.expire_knowledge() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_expired integer;
begin
  update ai.knowledge_chunks c set is_active = false
  where c.is_active and c.source_doc_id in (select d.id from ai.knowledge_documents d
    where d.expires_at between private.now() - interval '31 days' and private.now());
  get diagnostics v_expired = row_count;
  delete from ai.knowledge_documents d where d.id in (select k.id from ai.knowledge_documents k
    where k.expires_at < private.now() - interval '30 days' order by k.expires_at limit 1000 for update skip locked);
  return v_expired;
end $$;
comment on function ai.expire_knowledge() is
  'Sweep: chunks past their time no longer count, and go with their documents a month later.';
revoke all on function ai.expire_knowledge from public, anon, authenticated, service_role;
grant execute on function ai.expire_knowledge to service_role;
create index knowledge_documents_expiry on ai.knowledge_documents (expires_at) where expires_at is not null;

insert into ops.sweeps (name, function_name, every) values
  ('verify knowledge', 'ai.verify_due_knowledge', interval '30 seconds'),
  ('expire knowledge', 'ai.expire_knowledge', interval '10 minutes');
