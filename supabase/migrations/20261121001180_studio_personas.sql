-- Personas: invented people with one face, a voice and rules, who model garments and speak for a brand. Their faces
-- are creations, of which a person chooses one; what is learnt of them by training is in the next files.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_persona', 'PT404', 'Use the id of a persona of one of your workspaces.'),
  ('unknown_face', 'PT404', 'Choose an index of the persona''s face_paths, counted from 0.'),
  ('too_many_faces', 'PT409', 'Drop faces that nobody wants first.');

create table studio.personas (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  name text not null,
  status text not null default 'draft',
  role text not null default 'brand_ambassador',
  is_default boolean not null default false,
  is_favorite boolean not null default false,
  gender text,
  age_range text,
  ethnicity text,
  skin_tone text,
  body_type text,
  height_cm smallint,
  face_prompt text not null,
  face_seed bigint,
  face_reference_path text,
  face_paths text[] not null default '{}',
  selected_face_index smallint,
  style text not null default 'editorial',
  style_aesthetic text,
  default_pose text not null default 'front',
  lighting_preset text not null default 'studio',
  generation_settings jsonb not null default '{}',
  voice_profile jsonb not null default '{"tone": "friendly"}',
  autonomy_level smallint not null default 2,
  requires_approval_for text[] not null default '{discount_offer}',
  max_autonomous_value_cents integer not null default 5000,
  pinned_facts text[] not null default '{}',
  memory_categories text[] not null default '{}',
  disclosure_text text not null default 'I''m an AI assistant',
  minor_interaction_mode boolean not null default false,
  lora_trigger_word text not null default 'person',
  lora_status text not null default 'not_trained',
  lora_training_id uuid,
  lora_version integer not null default 0,
  lora_cost_micro bigint not null default 0,
  lora_training_error text,
  usage_count integer not null default 0,
  last_used_at timestamptz,
  total_interactions integer not null default 0,
  avg_satisfaction_score numeric(3, 2),
  created_by uuid default auth.uid(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint personas_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint personas_created_by_fkey foreign key (created_by) references identity.profiles (id) on delete set null,
  constraint personas_in_workspace unique (workspace_id, id),
  constraint personas_name_length check (length(name) between 1 and 100),
  constraint personas_status_known check (status in ('draft', 'active', 'archived')),
  constraint personas_role_shape check (role ~ '^[a-z][a-z0-9_]{0,49}$'),
  constraint personas_looks_lengths check (length(gender) <= 50 and length(age_range) <= 50 and length(ethnicity) <= 100
    and length(skin_tone) <= 100 and length(body_type) <= 100 and length(style) <= 100
    and length(style_aesthetic) <= 500 and length(default_pose) <= 100 and length(lighting_preset) <= 100),
  constraint personas_height_in_range check (height_cm between 30 and 250),
  constraint personas_face_prompt_length check (length(face_prompt) between 1 and 2000),
  constraint personas_face_seed_in_range check (face_seed between 0 and 4294967295),
  constraint personas_face_reference_in_workspace
    check (face_reference_path is null or private.is_workspace_path(face_reference_path, workspace_id)),
  constraint personas_faces_counted check (cardinality(face_paths) <= 24),
  constraint personas_selected_face_exists
    check (selected_face_index is null or selected_face_index between 0 and cardinality(face_paths) - 1),
  constraint personas_settings_are_objects
    check (jsonb_typeof(generation_settings) = 'object' and jsonb_typeof(voice_profile) = 'object'),
  constraint personas_autonomy_in_range check (autonomy_level between 0 and 5 and max_autonomous_value_cents >= 0),
  constraint personas_lists_are_short check (cardinality(requires_approval_for) <= 50
    and cardinality(pinned_facts) <= 100 and cardinality(memory_categories) <= 50),
  constraint personas_disclosure_length check (length(disclosure_text) between 1 and 500),
  constraint personas_trigger_word_shape check (lora_trigger_word ~ '^[[:alnum:]_ -]{1,50}$'),
  constraint personas_lora_status_known check (lora_status in ('not_trained', 'training', 'ready', 'failed')),
  constraint personas_ready_has_version check (lora_status <> 'ready' or lora_version > 0),
  constraint personas_failed_has_error check ((lora_status = 'failed') = (lora_training_error is not null)),
  constraint personas_counts_not_negative check (usage_count >= 0 and total_interactions >= 0 and lora_version >= 0
    and lora_cost_micro >= 0 and avg_satisfaction_score between 0 and 5)
);
comment on table studio.personas is
  'Invented people of a brand: looks, chosen face, voice, what they may do by themselves, and what is learnt of them.';
comment on column studio.personas.face_paths is 'Faces to choose from: paths in the bucket studio-results.';
comment on column studio.personas.face_reference_path is 'A picture in the bucket studio-uploads to go by.';
comment on column studio.personas.selected_face_index is 'The chosen one of face_paths, from 0; null: none is chosen.';
comment on column studio.personas.is_default is 'The one that speaks in its role when nobody says which.';
comment on column studio.personas.autonomy_level is
  '0: asks for everything, to 5: acts alone within its other limits.';
comment on column studio.personas.max_autonomous_value_cents is 'What it may give away without asking, in US cents.';
comment on column studio.personas.disclosure_text is 'How it says to people that it is a machine.';
comment on column studio.personas.minor_interaction_mode is 'Speaks as with minors, whoever it speaks with.';
comment on column studio.personas.lora_status is 'Of the newest training; an earlier version stays usable meanwhile.';
comment on column studio.personas.lora_training_id is 'The training whose weights creations use; null: none yet.';
comment on column studio.personas.lora_version is 'How many trainings have succeeded.';
comment on column studio.personas.lora_cost_micro is 'What its trainings have cost, in micro-units.';
create unique index personas_default_per_role on studio.personas (workspace_id, role) where is_default;
create index personas_workspace_id on studio.personas (workspace_id, created_at desc, id desc);
create index personas_favorites on studio.personas (workspace_id) where is_favorite;
create index personas_status on studio.personas (workspace_id, status);
create index personas_usage on studio.personas (workspace_id, usage_count desc);
create index personas_lora_ready on studio.personas (workspace_id) where lora_training_id is not null;
create index personas_created_by on studio.personas (created_by);
create trigger personas_touch before update on studio.personas
  for each row execute function private.touch_updated_at();
alter table studio.personas enable row level security;
create policy "Members may read their workspace's personas" on studio.personas for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add personas" on studio.personas for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change personas" on studio.personas for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete personas that are not being trained" on studio.personas for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]) and lora_status <> 'training');
revoke all on table studio.personas from public, anon, authenticated, service_role;
grant select, delete,
  insert (id, workspace_id, name, status, role, is_favorite, gender, age_range, ethnicity, skin_tone, body_type,
    height_cm, face_prompt, face_seed, face_reference_path, style, style_aesthetic, default_pose, lighting_preset,
    generation_settings, voice_profile, autonomy_level, requires_approval_for, max_autonomous_value_cents,
    pinned_facts, memory_categories, disclosure_text, minor_interaction_mode, lora_trigger_word),
  update (name, status, role, is_favorite, gender, age_range, ethnicity, skin_tone, body_type, height_cm, face_prompt,
    face_seed, face_reference_path, style, style_aesthetic, default_pose, lighting_preset, generation_settings,
    voice_profile, autonomy_level, requires_approval_for, max_autonomous_value_cents, pinned_facts,
    memory_categories, disclosure_text, minor_interaction_mode, lora_trigger_word)
  on table studio.personas to authenticated;
grant select, insert, update, delete on table studio.personas to service_role;

-- Who changes roles takes no default away: where the new role has one, that one stays it.
create function private.keep_default_of_role() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.is_default := not exists (select from studio.personas p
    where p.workspace_id = new.workspace_id and p.role = new.role and p.is_default and p.id <> new.id);
  return new;
end $$;
comment on function private.keep_default_of_role() is
  'Trigger: a default persona that changes its role is the new role''s default only where that has none.';
revoke all on function private.keep_default_of_role from public, anon, authenticated, service_role;
create trigger personas_change_role before update of role on studio.personas
  for each row when (new.is_default and new.role <> old.role) execute function private.keep_default_of_role();

-- A persona that the caller may see. Error: unknown_persona.
create function private.find_persona(persona_id uuid) returns studio.personas
language plpgsql stable
set search_path = ''
as $$
declare
  v_persona studio.personas;
begin
  select * into v_persona from studio.personas p where p.id = persona_id
    and (private.is_service() or private.has_role(p.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_persona', 'There is no such persona.', jsonb_build_object('persona_id', persona_id));
  end if;
  return v_persona;
end $$;
comment on function private.find_persona(uuid) is 'A persona that the caller may see.';
revoke all on function private.find_persona from public, anon, authenticated, service_role;

-- Two who make different personas the default at once: the second waits for the first, and the last one wins.
create function private.set_default_persona(persona_id uuid) returns studio.personas
language plpgsql security definer
set search_path = ''
as $$
declare
  v_persona studio.personas := private.find_persona(persona_id);
begin
  perform private.require_role(v_persona.workspace_id, 'editor');
  perform from studio.personas p
  where p.workspace_id = v_persona.workspace_id and p.role = v_persona.role order by p.id for no key update;
  -- it may have been deleted, or been given another role, while the lock was waited for
  v_persona := private.find_persona(persona_id);
  update studio.personas p set is_default = false
  where p.workspace_id = v_persona.workspace_id and p.role = v_persona.role and p.is_default and p.id <> persona_id;
  update studio.personas p set is_default = true where p.id = persona_id returning p.* into v_persona;
  return v_persona;
end $$;
comment on function private.set_default_persona(uuid) is 'Core of studio.set_default_persona; checks the caller first.';
revoke all on function private.set_default_persona from public, anon, authenticated, service_role;
grant execute on function private.set_default_persona to authenticated, service_role;

-- Editors. Errors: unknown_persona, role_too_low.
create function studio.set_default_persona(persona_id uuid) returns studio.personas
language sql
set search_path = ''
as $$ select private.set_default_persona(persona_id) $$;
comment on function studio.set_default_persona(uuid) is
  'Makes a persona the default of its role; whichever was it before is no longer.';
revoke all on function studio.set_default_persona from public, anon, authenticated, service_role;
grant execute on function studio.set_default_persona to authenticated, service_role;
