-- Training: a provider learns a persona's looks from pictures and gives weights (a LoRA), which later creations use.
-- A request checks the pictures, holds the price and enqueues the job in one transaction; the job's end captures or
-- releases the charge and makes the weights a version of the persona, again in one transaction.

insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('lora_training', 'Persona training', 'step', 300);

insert into private.error_codes (name, sqlstate, hint) values
  ('training_in_progress', 'PT409', 'Wait for the training of this persona to end, or cancel it.'),
  ('training_images_invalid', 'PT422', 'Give the paths of 4 to 50 pictures, at most 150 MiB in all.'),
  ('unknown_training', 'PT404', 'Use the id of a training of one of your workspaces.'),
  ('training_ended', 'PT409', 'The training has ended, or is about to, and cannot be cancelled any more.'),
  ('training_without_weights', 'PT422', 'Complete the job with lora_path, where the weights lie.');

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('studio.lora_training', 'Trains a persona''s weights at a provider and stores them.',
    'studio.on_lora_training_job', interval '6 hours', 'fal');

-- Weights and the archives they are trained from; clients never come here.
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('studio-loras', 'studio-loras', false, 536870912, array['application/octet-stream', 'application/zip'])
on conflict (id) do nothing;

create table studio.lora_trainings (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  persona_id uuid not null,
  version integer not null,
  images jsonb not null,
  image_count integer not null,
  trigger_word text not null default 'person',
  steps integer not null default 1000,
  epochs integer not null generated always as ((steps + image_count - 1) / image_count) stored,
  rank integer,
  alpha integer,
  resolution integer,
  learning_rate numeric(10, 8),
  base_model text not null default 'FLUX.1-dev',
  status text not null default 'pending',
  progress smallint not null default 0,
  stage text,
  provider text,
  provider_request_id text,
  lora_path text,
  lora_size_bytes bigint,
  processed_images integer,
  training_seconds numeric(10, 2),
  total_seconds numeric(10, 2)
    generated always as (extract(epoch from completed_at - started_at)::numeric(10, 2)) stored,
  error_code text,
  error_message text,
  usage_event_id uuid,
  job_id bigint,
  cost_micro bigint,
  charged_at timestamptz,
  refunded_at timestamptz,
  key text,
  content_hash bytea not null,
  created_by uuid,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  constraint lora_trainings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint lora_trainings_persona_id_fkey foreign key (workspace_id, persona_id)
    references studio.personas (workspace_id, id) on delete cascade,
  constraint lora_trainings_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint lora_trainings_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint lora_trainings_version_positive check (version > 0),
  constraint lora_trainings_images_counted
    check (jsonb_typeof(images) = 'array' and jsonb_array_length(images) = image_count
      and image_count between 4 and 50),
  constraint lora_trainings_steps_in_range check (steps between 100 and 10000),
  constraint lora_trainings_trigger_word_shape check (trigger_word ~ '^[[:alnum:]_ -]{1,50}$'),
  constraint lora_trainings_facts_positive check (rank > 0 and alpha > 0 and resolution > 0 and learning_rate > 0
    and lora_size_bytes > 0 and processed_images >= 0 and training_seconds >= 0 and cost_micro >= 0),
  constraint lora_trainings_status_known
    check (status in ('pending', 'training', 'completed', 'failed', 'cancelled')),
  constraint lora_trainings_progress_in_range check (progress between 0 and 100),
  constraint lora_trainings_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint lora_trainings_completed_has_weights
    check ((status = 'completed') = (lora_path is not null and charged_at is not null and cost_micro is not null)),
  constraint lora_trainings_given_up_is_refunded
    check ((status in ('failed', 'cancelled')) = (refunded_at is not null)),
  constraint lora_trainings_failed_has_error check ((status = 'failed') = (error_message is not null)),
  constraint lora_trainings_key_length check (length(key) between 1 and 255)
);
comment on table studio.lora_trainings is
  'Trainings of personas: pictures, live progress, cost, and the version that came of each.';
comment on column studio.lora_trainings.version is
  'Counts the persona''s successes: a failed training''s is used again.';
comment on column studio.lora_trainings.images is 'The pictures learnt from, [{bucket, path}].';
comment on column studio.lora_trainings.epochs is 'How often each picture is seen, from steps and pictures.';
comment on column studio.lora_trainings.rank is
  'Of the weights; null, like alpha, resolution and learning_rate: the trainer chose and did not say.';
comment on column studio.lora_trainings.lora_path is 'The weights, a safetensors file in the bucket studio-loras.';
comment on column studio.lora_trainings.training_seconds is 'At the provider; total_seconds is from start to end here.';
comment on column studio.lora_trainings.refunded_at is 'When the held price went back.';
comment on column studio.lora_trainings.cost_micro is 'What was charged, in micro-units; null until completed.';
create unique index lora_trainings_one_at_a_time on studio.lora_trainings (persona_id)
  where status in ('pending', 'training');
create unique index lora_trainings_version on studio.lora_trainings (persona_id, version)
  where status in ('pending', 'training', 'completed');
create unique index lora_trainings_key on studio.lora_trainings (workspace_id, key) where key is not null;
create index lora_trainings_workspace_id on studio.lora_trainings (workspace_id, created_at desc, id desc);
create index lora_trainings_persona_id on studio.lora_trainings (workspace_id, persona_id, created_at desc);
create index lora_trainings_created_by on studio.lora_trainings (created_by);
create index lora_trainings_usage_event_id on studio.lora_trainings (usage_event_id);
create constraint trigger release_deleted_trainings after delete on studio.lora_trainings
  deferrable initially deferred
  for each row when (old.completed_at is null) execute function billing._release_deleted_hold();
alter table studio.lora_trainings enable row level security;
create policy "Members may read their workspace's trainings" on studio.lora_trainings for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.lora_trainings from public, anon, authenticated, service_role;
grant select on table studio.lora_trainings to authenticated;
grant select, insert, update, delete on table studio.lora_trainings to service_role;

alter table studio.personas add constraint personas_lora_training_id_fkey foreign key (lora_training_id)
  references studio.lora_trainings (id) on delete set null;
create index personas_lora_training_id on studio.personas (lora_training_id);
alter table studio.persona_creations add constraint persona_creations_lora_training_id_fkey
  foreign key (lora_training_id) references studio.lora_trainings (id) on delete cascade;
create index persona_creations_lora_training_id on studio.persona_creations (lora_training_id);
