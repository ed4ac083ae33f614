-- Creations: a request holds its charge and enqueues its job in one transaction; the job's end settles or
-- releases the charge, updates the creation and tells the person, again in one transaction.

create table studio.creation_types (
  creation_type text primary key,
  meter text not null,
  output_kind text not null default 'image',
  needs_garment boolean not null default false,
  needs_person boolean not null default true,
  needs_prompt boolean not null default false,
  prompt_setting text,
  max_outputs smallint not null default 4,
  is_available boolean not null default false,
  created_at timestamptz not null default now(),
  constraint creation_types_meter_fkey foreign key (meter) references billing.meters (slug),
  constraint creation_types_output_kind_known check (output_kind in ('image', 'video')),
  constraint creation_types_max_outputs_in_range check (max_outputs between 1 and 4),
  constraint creation_types_prompt_setting_stands_in check (prompt_setting is null or needs_prompt)
);
comment on table studio.creation_types is
  'What can be created, which inputs it needs and how many outputs one request may have.';
comment on column studio.creation_types.meter is
  'One unit an output, unless studio.creation_prices says otherwise.';
comment on column studio.creation_types.needs_person is
  'A picture to start from is required: a model or an upload (of a person in a try-on, of anything otherwise).';
comment on column studio.creation_types.prompt_setting is 'A setting that may be given instead of the prompt.';
create index creation_types_meter on studio.creation_types (meter);
alter table studio.creation_types enable row level security;
create policy "Everybody may read the creation types" on studio.creation_types for select to anon, authenticated
  using (true);
revoke all on table studio.creation_types from public, anon, authenticated, service_role;
grant select on table studio.creation_types to anon, authenticated;
grant select, insert, update, delete on table studio.creation_types to service_role;
insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('video_second', 'Video generation', 'second', 1500 * 6);
insert into studio.creation_types (creation_type, meter, output_kind, needs_garment, needs_person, needs_prompt,
  prompt_setting, max_outputs, is_available) values
  ('tryon', 'generation', 'image', true, true, false, null, 4, true),
  ('bg_remove', 'generation', 'image', false, true, false, null, 1, true),
  ('upscale', 'generation', 'image', false, true, false, null, 1, true),
  ('color_change', 'generation', 'image', false, true, true, 'color', 4, true),
  ('text_to_image', 'generation', 'image', false, false, true, null, 4, true),
  ('image_to_image', 'generation', 'image', false, true, true, null, 4, true),
  ('video', 'video_second', 'video', false, true, true, null, 1, true);

create table studio.creation_settings (
  creation_type text not null,
  setting text not null,
  kind text not null,
  minimum numeric,
  maximum numeric,
  maximum_by_quality jsonb not null default '{}',
  choices jsonb,
  description text not null,
  created_at timestamptz not null default now(),
  constraint creation_settings_pkey primary key (creation_type, setting),
  constraint creation_settings_type_fkey foreign key (creation_type)
    references studio.creation_types (creation_type) on delete cascade,
  constraint creation_settings_kind_known check (kind in ('integer', 'number', 'text', 'choice')),
  constraint creation_settings_choice_has_choices
    check ((kind = 'choice') = (choices is not null) and (choices is null or jsonb_typeof(choices) = 'array')),
  constraint creation_settings_bounds_in_order check (minimum <= maximum),
  constraint creation_settings_qualities_known check (jsonb_typeof(maximum_by_quality) = 'object'
    and maximum_by_quality - array['fast', 'balanced', 'high', 'ultra'] = '{}'
    and not maximum_by_quality @? '$.* ? (@.type() != "number")')
);
comment on table studio.creation_settings is
  'What may stand in a creation''s settings, by type: a client''s form. Other keys are kept and ignored.';
comment on column studio.creation_settings.maximum is 'Of a number; of a text its length.';
comment on column studio.creation_settings.maximum_by_quality is
  'By quality, where less than maximum is allowed: {"fast": 2}. What costs more to make is paid for by the quality.';
alter table studio.creation_settings enable row level security;
create policy "Everybody may read the creation settings" on studio.creation_settings for select to anon, authenticated
  using (true);
revoke all on table studio.creation_settings from public, anon, authenticated, service_role;
grant select on table studio.creation_settings to anon, authenticated;
grant select, insert, update, delete on table studio.creation_settings to service_role;
insert into studio.creation_settings (creation_type, setting, kind, minimum, maximum, description)
select t.creation_type, 'seed', 'integer', 0, 4294967295,
  'The same seed with the same inputs gives much the same picture.'
from studio.creation_types t where t.creation_type in ('tryon', 'color_change', 'text_to_image', 'image_to_image');
insert into studio.creation_settings (creation_type, setting, kind, minimum, maximum, choices, description)
values
  ('tryon', 'garment_description', 'text', 1, 500, null, 'The garment in a few words, for models that read one.'),
  ('upscale', 'scale', 'number', 1, 8, null, 'How much larger each side becomes; 2 without it, or 4 in ultra.'),
  ('color_change', 'color', 'text', 1, 60, null, 'The new colour by name or as #rrggbb, instead of a prompt.'),
  ('text_to_image', 'aspect_ratio', 'choice', null, null, '["1:1", "4:3", "3:4", "16:9", "9:16"]',
    'Shape; 1:1 without it.'),
  ('image_to_image', 'strength', 'number', 0.01, 1, null,
    'How far the result may depart from the picture; 0.8 without it.'),
  ('video', 'duration', 'choice', null, null, '[5, 10]', 'Seconds; 5 without it.');
-- Eight times each side are 64 times the pixels: who wants more of them takes a quality that costs more.
update studio.creation_settings s set maximum_by_quality = '{"fast": 2, "balanced": 4, "high": 4}'
where s.creation_type = 'upscale' and s.setting = 'scale';

-- The price is the meter's, times units for an output, or for a second of it. A person is charged this whoever makes
-- it.
create table studio.creation_prices (
  creation_type text not null,
  quality text not null,
  meter text not null,
  units numeric(12, 6) not null default 1,
  per text not null default 'output',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint creation_prices_pkey primary key (creation_type, quality),
  constraint creation_prices_type_fkey foreign key (creation_type)
    references studio.creation_types (creation_type) on delete cascade,
  constraint creation_prices_meter_fkey foreign key (meter) references billing.meters (slug),
  constraint creation_prices_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint creation_prices_units_positive check (units > 0),
  constraint creation_prices_per_known check (per in ('output', 'second'))
);
comment on table studio.creation_prices is
  'How many units of which meter one output costs, by type and quality; see studio.estimate_creation.';
comment on column studio.creation_prices.per is 'second: units are for each second of an output (settings.duration).';
create index creation_prices_meter on studio.creation_prices (meter);
create trigger creation_prices_touch before update on studio.creation_prices
  for each row execute function private.touch_updated_at();
alter table studio.creation_prices enable row level security;
create policy "Everybody may read the creation prices" on studio.creation_prices for select to anon, authenticated
  using (true);
revoke all on table studio.creation_prices from public, anon, authenticated, service_role;
grant select on table studio.creation_prices to anon, authenticated;
grant select, insert, update, delete on table studio.creation_prices to service_role;
insert into studio.creation_prices (creation_type, quality, meter, units, per)
select t.creation_type, q.quality, case t.creation_type when 'video' then 'video_second' else 'generation' end, q.units,
  case t.creation_type when 'video' then 'second' else 'output' end
from (values ('tryon', array[1, 1, 1, 2]), ('bg_remove', array[1, 1, 1, 1]), ('upscale', array[1, 1, 1, 2]),
  ('color_change', array[2, 2, 2, 4]), ('text_to_image', array[1, 2, 2, 3]), ('image_to_image', array[2, 2, 2, 3]),
  ('video', array[1, 1, 1.5, 2])) t (creation_type, units)
cross join lateral unnest(array['fast', 'balanced', 'high', 'ultra'], t.units) q (quality, units);

create table studio.creations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  project_id uuid,
  created_by uuid,
  creation_type text not null default 'tryon',
  garment_id uuid,
  model_id uuid,
  garment_path text,
  model_storage_path text,
  prompt text,
  quality text not null default 'balanced',
  category text not null default 'upper_body',
  num_outputs integer not null default 1,
  settings jsonb not null default '{}',
  status text not null default 'pending',
  progress smallint not null default 0,
  stage text,
  result_paths text[] not null default '{}',
  thumbnail_path text,
  provider text,
  provider_model text,
  provider_request_id text,
  retry_of uuid,
  usage_event_id uuid,
  job_id bigint,
  cost_micro bigint,
  error_code text,
  error_message text,
  key text,
  content_hash bytea,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  constraint creations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint creations_project_id_fkey foreign key (project_id) references studio.projects (id) on delete set null,
  constraint creations_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint creations_type_fkey foreign key (creation_type) references studio.creation_types (creation_type),
  constraint creations_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete set null,
  constraint creations_model_id_fkey foreign key (model_id) references studio.models (id) on delete set null,
  constraint creations_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint creations_retry_of_fkey foreign key (retry_of) references studio.creations (id) on delete set null,
  constraint creations_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint creations_category_known check (category in ('upper_body', 'lower_body', 'dresses')),
  constraint creations_num_outputs_in_range check (num_outputs between 1 and 4),
  constraint creations_progress_in_range check (progress between 0 and 100),
  constraint creations_status_known check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  constraint creations_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint creations_completed_has_results
    check ((status = 'completed') = (cardinality(result_paths) > 0 and cost_micro is not null)),
  constraint creations_failed_has_error check ((status = 'failed') = (error_message is not null)),
  constraint creations_key_length check (length(key) between 1 and 255)
);
comment on table studio.creations is
  'One request for a try-on or other generation: inputs, live progress, results, cost.';
comment on column studio.creations.cost_micro is 'What was charged, in micro-units; null until completed.';
comment on column studio.creations.result_paths is 'Paths in the bucket studio-results.';
comment on column studio.creations.provider is 'Who makes it now; another one after the first failed.';
comment on column studio.creations.retry_of is 'The failed creation that this one tries again.';
create unique index creations_key on studio.creations (workspace_id, key) where key is not null;
create index creations_workspace_id on studio.creations (workspace_id, created_at desc, id desc);
create index creations_type on studio.creations (workspace_id, creation_type, created_at desc, id desc);
create index creations_creation_type on studio.creations (creation_type);
create index creations_project_id on studio.creations (project_id, created_at desc, id desc);
create index creations_created_by on studio.creations (created_by);
create index creations_garment_id on studio.creations (garment_id);
create index creations_model_id on studio.creations (model_id);
create index creations_job_id on studio.creations (job_id);
create unique index creations_retry_of on studio.creations (retry_of) where retry_of is not null;
create index creations_usage_event_id on studio.creations (usage_event_id);
create index creations_provider_request on studio.creations (provider, provider_request_id)
  where provider_request_id is not null;
create index creations_open on studio.creations (created_at) where status in ('pending', 'processing');
create constraint trigger release_deleted_creations after delete on studio.creations
  deferrable initially deferred
  for each row when (old.completed_at is null) execute function billing._release_deleted_hold();
alter table studio.creations enable row level security;
create policy "Members may read their workspace's creations" on studio.creations for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may move creations to another project" on studio.creations for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]))
  with check (project_id is null
    or exists (select from studio.projects p where p.id = project_id and p.workspace_id = creations.workspace_id));
create policy "Editors may delete creations that have ended" on studio.creations for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]) and completed_at is not null);
revoke all on table studio.creations from public, anon, authenticated, service_role;
grant select, delete, update (project_id) on table studio.creations to authenticated;
grant select on table studio.creations to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_garment', 'PT404', 'Choose a garment of this workspace''s wardrobe.'),
  ('unknown_model', 'PT404', 'Choose a model of this workspace.'),
  ('unknown_project', 'PT404', 'Choose a project of this workspace.'),
  ('unknown_image', 'PT404', 'Upload the picture to the bucket studio-uploads, under the workspace''s id, first.'),
  ('unsupported_image_type', 'PT415', 'Use a PNG, JPEG or WebP picture.'),
  ('image_rejected', 'PT422', 'Replace the picture by one that fits the rules of studio.picture_rules.'),
  ('creation_type_unavailable', 'PT422', 'Choose a type of studio.creation_types that is available.'),
  ('unknown_creation', 'PT404', 'Check the creation''s id.'),
  ('creation_ended', 'PT409', 'The creation has ended, or is about to, and cannot be cancelled any more.'),
  ('creation_without_results', 'PT422', 'Complete the job with result_paths, the paths of the pictures it made.'),
  ('creation_went_on', 'PT409', 'The creation goes on, or has ended, with another job: replay that one.'),
  ('creation_not_failed', 'PT409', 'Only a creation that failed or was cancelled can be tried again.');

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('studio.creation', 'Makes one creation at a provider and stores its results.', 'studio.on_creation_job',
    interval '30 minutes', 'fal'),
  ('studio.cancel_at_provider', 'Asks a provider to stop work nobody wants any more.', null, interval '1 hour', null);
insert into ops.webhook_providers (provider, job_kind) values ('fal', null);
