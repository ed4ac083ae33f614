-- Collections of the wardrobe: every workspace has a default one, made with it, and a garment that is put nowhere, or
-- whose collection goes, is in that one.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_collection', 'PT404', 'Choose a collection of this workspace''s wardrobe.'),
  ('default_collection', 'PT409', 'Make another collection the default first: studio.set_default_collection.');

create function private.create_default_collection() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into studio.wardrobe_collections (workspace_id, name, is_default) values (new.id, 'Wardrobe', true);
  return null;
end $$;
comment on function private.create_default_collection() is 'Trigger: gives a new workspace its default collection.';
revoke all on function private.create_default_collection from public, anon, authenticated, service_role;
create trigger workspaces_create_collection after insert on identity.workspaces
  for each row execute function private.create_default_collection();
insert into studio.wardrobe_collections (workspace_id, name, is_default) select w.id, 'Wardrobe', true
from identity.workspaces w;

create function private.place_garment() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    -- what somebody puts elsewhere is theirs: the collection that brought it lets it be
    new.is_synced := false;
  end if;
  if new.collection_id is null then
    select c.id into new.collection_id from studio.wardrobe_collections c
    where c.workspace_id = new.workspace_id and c.is_default;
  end if;
  return new;
end $$;
comment on function private.place_garment() is 'Trigger: a garment without a collection is in the default one.';
revoke all on function private.place_garment from public, anon, authenticated, service_role;
create trigger wardrobe_garments_place before insert on studio.wardrobe_garments
  for each row when (new.collection_id is null) execute function private.place_garment();
create trigger wardrobe_garments_move before update of collection_id on studio.wardrobe_garments
  for each row when (new.collection_id is distinct from old.collection_id) execute function private.place_garment();

create function private.empty_collection() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- with its workspace goes everything
  if not exists (select from identity.workspaces w where w.id = old.workspace_id) then
    return old;
  end if;
  if old.is_default then
    perform private.fail('default_collection', format('"%s" is the default collection.', old.name),
      jsonb_build_object('collection_id', old.id));
  end if;
  update studio.wardrobe_garments g set collection_id = null
  where g.workspace_id = old.workspace_id and g.collection_id = old.id;
  return old;
end $$;
comment on function private.empty_collection() is
  'Trigger: garments of a deleted collection go to the default one, which is not deleted.';
revoke all on function private.empty_collection from public, anon, authenticated, service_role;
create trigger wardrobe_collections_empty before delete on studio.wardrobe_collections
  for each row execute function private.empty_collection();

-- A collection that the caller may know of. Errors: unknown_collection.
create function private.require_collection(collection_id uuid) returns studio.wardrobe_collections
language plpgsql stable
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections;
begin
  select * into v_collection from studio.wardrobe_collections c where c.id = require_collection.collection_id
    and (private.is_service() or private.has_role(c.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_collection', 'There is no such collection.',
      jsonb_build_object('collection_id', collection_id));
  end if;
  return v_collection;
end $$;
comment on function private.require_collection(uuid) is 'A collection of a workspace that the caller belongs to.';
revoke all on function private.require_collection from public, anon, authenticated, service_role;

create function private.set_default_collection(collection_id uuid) returns studio.wardrobe_collections
language plpgsql security definer
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections := private.require_collection(collection_id);
begin
  perform private.require_role(v_collection.workspace_id, 'editor');
  perform from studio.wardrobe_collections c where c.workspace_id = v_collection.workspace_id
    and (c.is_default or c.id = v_collection.id) order by c.id for no key update;
  -- it may have been deleted while the lock was waited for
  v_collection := private.require_collection(collection_id);
  update studio.wardrobe_collections c set is_default = false
  where c.workspace_id = v_collection.workspace_id and c.is_default and c.id <> v_collection.id;
  update studio.wardrobe_collections c set is_default = true where c.id = v_collection.id
  returning * into v_collection;
  return v_collection;
end $$;
comment on function private.set_default_collection is
  'Core of studio.set_default_collection; checks the caller first.';
revoke all on function private.set_default_collection from public, anon, authenticated, service_role;
grant execute on function private.set_default_collection to authenticated, service_role;

-- Makes a collection its workspace's default. Editors may. Errors: unknown_collection, role_too_low.
create function studio.set_default_collection(collection_id uuid) returns studio.wardrobe_collections
language sql
set search_path = ''
as $$ select private.set_default_collection(collection_id) $$;
comment on function studio.set_default_collection is 'Makes a collection the one that new garments go to.';
revoke all on function studio.set_default_collection from public, anon, authenticated, service_role;
grant execute on function studio.set_default_collection to authenticated, service_role;
