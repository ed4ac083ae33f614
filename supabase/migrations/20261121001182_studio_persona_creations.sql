-- What is made of a persona: faces to choose from, and pictures with what a training has learnt. Both are creations
-- like any other; a row beside each says whose it is, and which weights it is made with.

insert into private.error_codes (name, sqlstate, hint) values
  ('persona_not_trained', 'PT409', 'Train the persona first: studio.train_persona.'),
  ('unknown_lora_version', 'PT404', 'Use the version of a completed row of studio.lora_trainings of this persona.');

insert into studio.creation_types (creation_type, meter, needs_garment, needs_person, needs_prompt, is_available)
values ('persona_image', 'generation', false, false, true, true);
insert into studio.creation_settings (creation_type, setting, kind, minimum, maximum, choices, description)
select 'persona_image', s.setting, s.kind, s.minimum, s.maximum, s.choices, s.description
from studio.creation_settings s where s.creation_type = 'text_to_image';
insert into studio.creation_prices (creation_type, quality, meter, units) values
  ('persona_image', 'fast', 'generation', 2), ('persona_image', 'balanced', 'generation', 2),
  ('persona_image', 'high', 'generation', 2), ('persona_image', 'ultra', 'generation', 3);

create table studio.persona_creations (
  creation_id uuid primary key,
  workspace_id uuid not null,
  persona_id uuid not null,
  purpose text not null,
  lora_training_id uuid,
  lora_scale numeric(3, 2),
  created_at timestamptz not null default now(),
  constraint persona_creations_creation_id_fkey foreign key (creation_id)
    references studio.creations (id) on delete cascade,
  constraint persona_creations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint persona_creations_persona_id_fkey foreign key (workspace_id, persona_id)
    references studio.personas (workspace_id, id) on delete cascade,
  constraint persona_creations_purpose_known check (purpose in ('face', 'image')),
  constraint persona_creations_lora_has_scale check ((lora_training_id is null) = (lora_scale is null)),
  constraint persona_creations_scale_in_range check (lora_scale between 0 and 4)
);
comment on table studio.persona_creations is 'Which creations are of which persona, and made with which weights.';
comment on column studio.persona_creations.purpose is 'face: its pictures join the persona''s face_paths; image: used.';
create index persona_creations_persona_id on studio.persona_creations (workspace_id, persona_id, created_at desc);
alter table studio.persona_creations enable row level security;
create policy "Members may read what is made of their personas" on studio.persona_creations for select
  to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.persona_creations from public, anon, authenticated, service_role;
grant select on table studio.persona_creations to authenticated;
grant select, insert, update, delete on table studio.persona_creations to service_role;

-- What a picture maker is told of a persona's looks.
create function private.persona_looks(persona studio.personas) returns text
language sql immutable
set search_path = ''
as $$
  select concat_ws(', ', persona.face_prompt, persona.gender, persona.age_range, persona.ethnicity,
    persona.skin_tone || ' skin', persona.body_type || ' build', persona.style || ' style', persona.style_aesthetic,
    persona.lighting_preset || ' lighting')
$$;
comment on function private.persona_looks(studio.personas) is 'A persona''s looks in words.';
revoke all on function private.persona_looks from public, anon, authenticated, service_role;

-- Faces that are being made are counted: none is paid for that could not be kept. Error: too_many_faces.
create function private.require_face_room(persona_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_most constant integer := 24;
  v_faces integer := (select cardinality(p.face_paths) from studio.personas p where p.id = persona_id);
  v_coming integer := (select coalesce(sum(c.num_outputs), 0) from studio.persona_creations l
    join studio.creations c on c.id = l.creation_id
    where l.persona_id = require_face_room.persona_id and l.purpose = 'face' and c.completed_at is null);
begin
  if v_faces + v_coming > v_most then
    perform private.fail('too_many_faces', format('A persona has at most %s faces, those included that are being made.',
      v_most), jsonb_build_object('faces', v_faces, 'coming', v_coming, 'most', v_most));
  end if;
end $$;
comment on function private.require_face_room(uuid) is
  'Refuses when the faces of a persona and those that are being made are too many.';
revoke all on function private.require_face_room from public, anon, authenticated, service_role;

create function private.generate_persona_faces(persona_id uuid, num_faces integer, seed bigint, key text)
returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_persona studio.personas := private.find_persona(persona_id);
  v_creation studio.creations;
begin
  perform private.require_role(v_persona.workspace_id, 'member');
  if num_faces is null or num_faces not between 1 and 4 then
    perform private.fail('invalid_argument', 'num_faces: must be 1 to 4.', '{"argument": "num_faces"}');
  end if;
  v_creation := studio.request_creation(workspace_id => v_persona.workspace_id, creation_type => 'text_to_image',
    prompt => 'Portrait photograph, head and shoulders, facing the camera, plain background: '
      || private.persona_looks(v_persona),
    quality => 'high', num_outputs => num_faces, key => generate_persona_faces.key,
    settings => jsonb_strip_nulls(jsonb_build_object('persona_id', persona_id,
      'seed', coalesce(generate_persona_faces.seed, v_persona.face_seed))));
  insert into studio.persona_creations (creation_id, workspace_id, persona_id, purpose)
  values (v_creation.id, v_persona.workspace_id, persona_id, 'face')
  on conflict on constraint persona_creations_pkey do nothing;
  -- a repeat of what has been granted is not asked again
  if found then
    -- after the wallet's lock, as where faces arrive
    perform from studio.personas p where p.id = persona_id for no key update;
    perform private.require_face_room(persona_id);
  end if;
  return v_creation;
end $$;
comment on function private.generate_persona_faces is 'Core of studio.generate_persona_faces; checks the caller first.';
revoke all on function private.generate_persona_faces from public, anon, authenticated, service_role;
grant execute on function private.generate_persona_faces to authenticated, service_role;

-- Members. The creation is followed like any other; when it completes, its pictures join face_paths. The same seed
-- gives the same faces again; without one, the persona's face_seed, and without that, chance.
-- Errors: unknown_persona, role_too_low, invalid_argument, too_many_faces, those of studio.request_creation.
create function studio.generate_persona_faces(persona_id uuid, num_faces integer default 4, seed bigint default null,
  key text default null) returns studio.creations
language sql
set search_path = ''
as $$ select private.generate_persona_faces(persona_id, num_faces, seed, key) $$;
comment on function studio.generate_persona_faces is
  'Asks for faces of a persona, of which one is chosen with choose_persona_face.';
revoke all on function studio.generate_persona_faces from public, anon, authenticated, service_role;
grant execute on function studio.generate_persona_faces to authenticated, service_role;

-- In the transaction that completes the creation. It locks the persona last.
create function private.on_persona_creation() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update studio.personas p
  set face_paths = case l.purpose when 'face' then (p.face_paths || new.result_paths)[:24] else p.face_paths end,
    usage_count = p.usage_count + case l.purpose when 'image' then 1 else 0 end,
    last_used_at = case l.purpose when 'image' then private.now() else p.last_used_at end
  from studio.persona_creations l where l.creation_id = new.id and p.id = l.persona_id;
  return null;
end $$;
comment on function private.on_persona_creation() is
  'Trigger: gives a persona the faces that were made, or counts its use.';
revoke all on function private.on_persona_creation from public, anon, authenticated, service_role;
create trigger creations_of_personas after update of status on studio.creations
  for each row when (new.status = 'completed' and old.status <> 'completed')
  execute function private.on_persona_creation();

-- A creation that is tried again is the same persona's.
create function private.keep_persona_of_retry() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into studio.persona_creations (creation_id, workspace_id, persona_id, purpose, lora_training_id, lora_scale)
  select new.id, l.workspace_id, l.persona_id, l.purpose, l.lora_training_id, l.lora_scale
  from studio.persona_creations l where l.creation_id = new.retry_of;
  perform private.require_face_room(l.persona_id) from studio.persona_creations l
  where l.creation_id = new.id and l.purpose = 'face';
  return null;
end $$;
comment on function private.keep_persona_of_retry() is 'Trigger: what is tried again stays the persona''s.';
revoke all on function private.keep_persona_of_retry from public, anon, authenticated, service_role;
create trigger creations_of_personas_again after insert on studio.creations
  for each row when (new.retry_of is not null) execute function private.keep_persona_of_retry();

create function private.choose_persona_face(persona_id uuid, face_index integer) returns studio.personas
language plpgsql security definer
set search_path = ''
as $$
declare
  v_persona studio.personas := private.find_persona(persona_id);
begin
  perform private.require_role(v_persona.workspace_id, 'editor');
  -- least: an index that no number of faces reaches fits the column, too
  update studio.personas p set selected_face_index = least(face_index, 1000)
  where p.id = persona_id and face_index between 0 and cardinality(p.face_paths) - 1
  returning p.* into v_persona;
  if not found then
    perform private.fail('unknown_face', 'The persona has no such face.',
      jsonb_build_object('face_index', face_index, 'faces', cardinality(v_persona.face_paths)));
  end if;
  return v_persona;
end $$;
comment on function private.choose_persona_face is 'Core of studio.choose_persona_face; checks the caller first.';
revoke all on function private.choose_persona_face from public, anon, authenticated, service_role;
grant execute on function private.choose_persona_face to authenticated, service_role;

-- Editors. Errors: unknown_persona, role_too_low, unknown_face.
create function studio.choose_persona_face(persona_id uuid, face_index integer) returns studio.personas
language sql
set search_path = ''
as $$ select private.choose_persona_face(persona_id, face_index) $$;
comment on function studio.choose_persona_face is 'Chooses one of a persona''s faces, counted from 0.';
revoke all on function studio.choose_persona_face from public, anon, authenticated, service_role;
grant execute on function studio.choose_persona_face to authenticated, service_role;

create function private.drop_persona_face(persona_id uuid, face_index integer) returns studio.personas
language plpgsql security definer
set search_path = ''
as $$
declare
  v_persona studio.personas := private.find_persona(persona_id);
begin
  perform private.require_role(v_persona.workspace_id, 'editor');
  update studio.personas p
  set face_paths = p.face_paths[:face_index] || p.face_paths[least(face_index, 1000) + 2:],
    selected_face_index = case when p.selected_face_index = face_index then null
      else p.selected_face_index - (p.selected_face_index > face_index)::integer end
  where p.id = persona_id and face_index between 0 and cardinality(p.face_paths) - 1
  returning p.* into v_persona;
  if not found then
    perform private.fail('unknown_face', 'The persona has no such face.',
      jsonb_build_object('face_index', face_index, 'faces', cardinality(v_persona.face_paths)));
  end if;
  return v_persona;
end $$;
comment on function private.drop_persona_face is 'Core of studio.drop_persona_face; checks the caller first.';
revoke all on function private.drop_persona_face from public, anon, authenticated, service_role;
grant execute on function private.drop_persona_face to authenticated, service_role;

-- Editors. The picture itself stays with its creation. Errors: unknown_persona, role_too_low, unknown_face.
create function studio.drop_persona_face(persona_id uuid, face_index integer) returns studio.personas
language sql
set search_path = ''
as $$ select private.drop_persona_face(persona_id, face_index) $$;
comment on function studio.drop_persona_face is
  'Takes a face out of those of a persona; a chosen one is chosen no more.';
revoke all on function studio.drop_persona_face from public, anon, authenticated, service_role;
grant execute on function studio.drop_persona_face to authenticated, service_role;
