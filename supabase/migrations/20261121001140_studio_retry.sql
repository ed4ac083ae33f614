-- Before and after a creation: what it would cost, and trying again what failed.

-- What a creation would cost now, and whether the workspace can pay it. Amounts are micro-units. What is held when the
-- creation is requested is exactly this; fewer outputs than asked for are charged less.
-- Errors: unknown_workspace, invalid_argument.
create function studio.estimate_creation(workspace_id uuid, creation_type text, quality text default 'balanced',
  num_outputs integer default 1, settings jsonb default '{}')
returns table (meter text, quantity numeric, unit_amount_micro bigint, amount_micro bigint, available_micro bigint,
  affordable boolean)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_type studio.creation_types := (select t from studio.creation_types t
    where t.creation_type = estimate_creation.creation_type);
  v_wrong text := case
    when v_type.creation_type is null then 'creation_type: is not known'
    when estimate_creation.num_outputs between 1 and v_type.max_outputs is not true
      then format('num_outputs: must be 1 to %s', v_type.max_outputs)
    else private.wrong_setting(estimate_creation.creation_type, coalesce(estimate_creation.settings, '{}'),
      estimate_creation.quality) end;
begin
  select q.meter, q.quantity into meter, quantity from private.creation_quantity(estimate_creation.creation_type,
    estimate_creation.quality, estimate_creation.num_outputs, estimate_creation.settings) q;
  if v_wrong is null and estimate_creation.quality in ('fast', 'balanced', 'high', 'ultra') is not true then
    v_wrong := 'quality: must be fast, balanced, high or ultra';
  end if;
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  select m.unit_amount_micro into unit_amount_micro from billing.meters m where m.slug = estimate_creation.meter;
  select q.amount_micro, q.available_micro, q.affordable into amount_micro, available_micro, affordable
  from billing.quote(estimate_creation.workspace_id, meter, quantity) q;
  return next;
end $$;
comment on function studio.estimate_creation is
  'What a creation costs before it is asked for, and whether the workspace can pay it.';
revoke all on function studio.estimate_creation from public, anon, authenticated, service_role;
grant execute on function studio.estimate_creation to authenticated, service_role;

create function private.retry_creation(creation_id uuid) returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_creation studio.creations;
  v_next uuid := creation_id;
begin
  -- To the last try; who tries that one again at the same moment waits for its lock, and finds one more. One that an
  -- operator replays meanwhile has not failed any more.
  while v_next is not null loop
    perform from studio.creations c where c.id = v_next
      and (private.is_service() or private.has_role(c.workspace_id, 'viewer'));
    if found then
      -- not the row's lock: a request locks garments and models, which whoever deletes them locks first
      perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('retry:' || v_next, 0));
    end if;
    select * into v_creation from studio.creations c where c.id = v_next
      and (private.is_service() or private.has_role(c.workspace_id, 'viewer'));
    if not found then
      perform private.fail('unknown_creation', 'There is no such creation.',
        jsonb_build_object('creation_id', creation_id));
    end if;
    select c.id into v_next from studio.creations c where c.retry_of = v_creation.id;
  end loop;
  perform private.require_role(v_creation.workspace_id, 'member');
  if v_creation.status not in ('failed', 'cancelled') then
    if v_creation.id = creation_id then
      perform private.fail('creation_not_failed', format('This creation is %s.', v_creation.status),
        jsonb_build_object('status', v_creation.status));
    end if;
    return v_creation;
  end if;
  return private.request_creation(v_creation.workspace_id, v_creation.creation_type, v_creation.garment_id,
    v_creation.model_id, case when v_creation.model_id is null then v_creation.model_storage_path end,
    v_creation.prompt, v_creation.quality, v_creation.category, v_creation.num_outputs, v_creation.settings,
    v_creation.project_id, null, v_creation.id);
end $$;
comment on function private.retry_creation is 'Core of studio.retry_creation; checks the caller first.';
revoke all on function private.retry_creation from public, anon, authenticated, service_role;
grant execute on function private.retry_creation to authenticated, service_role;

-- Asks again for a creation that failed or was cancelled: the same inputs, a new creation (retry_of) and a new charge
-- at today's price. Of a creation that has been tried again already, the newest try answers, or is tried again in turn
-- when it failed too: asking twice makes and charges one.
-- Errors: unknown_creation, role_too_low, creation_not_failed, and those of studio.request_creation.
create function studio.retry_creation(creation_id uuid) returns studio.creations
language sql
set search_path = ''
as $$ select private.retry_creation(creation_id) $$;
comment on function studio.retry_creation is
  'Tries a failed or cancelled creation again, with the same inputs and a new charge.';
revoke all on function studio.retry_creation from public, anon, authenticated, service_role;
grant execute on function studio.retry_creation to authenticated, service_role;
