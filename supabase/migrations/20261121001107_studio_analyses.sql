-- What a vision model sees on a garment's picture, in the structure that try-on models work with. A request holds its
-- charge and enqueues its job in one transaction; the job's end writes the garment and settles, again in one.

insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('garment_analysis', 'Garment analysis', 'garment', 17 * 6);
insert into private.error_codes (name, sqlstate, hint) values
  ('image_pending', 'PT409', 'Wait until image_status is accepted; where it is unchecked: studio.recheck_garment.'),
  ('invalid_garment_metadata', 'PT422', 'Complete the job with metadata of the structure of leffa_metadata.');

create function private.is_garment_metadata(metadata jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
  select jsonb_typeof(metadata) = 'object'
    and coalesce(metadata ->> 'leffa_category' in ('upper_body', 'lower_body', 'dresses'), false)
    and coalesce(jsonb_typeof(metadata -> 'category_confidence') = 'number'
      and (metadata ->> 'category_confidence')::numeric between 0 and 1, not metadata ? 'category_confidence')
    and coalesce(metadata ->> 'sleeve_type' in ('sleeveless', 'cap', 'short', '3/4', 'long'), true)
    and coalesce(metadata ->> 'neckline' in ('crew', 'v-neck', 'scoop', 'high', 'off-shoulder'), true)
    and coalesce(metadata ->> 'length' in ('crop', 'regular', 'tunic', 'midi', 'maxi'), true)
    and coalesce(metadata ->> 'fit' in ('fitted', 'regular', 'relaxed', 'oversized'), true)
    and coalesce(jsonb_typeof(metadata -> 'has_print') = 'boolean', true)
    and coalesce(jsonb_typeof(metadata -> 'has_pattern') = 'boolean', true)
    and coalesce(metadata ->> 'pattern_type' in ('solid', 'stripes', 'plaid', 'floral', 'graphic'), true)
    and coalesce(jsonb_typeof(metadata -> 'warnings') = 'array', true)
    and coalesce(metadata ->> 'recommended_body_visible' in ('upper', 'lower', 'full'), true)
    and coalesce(metadata ->> 'recommended_pose' in ('front_standing', 'side', 'back'), true)
$$;
comment on function private.is_garment_metadata(jsonb) is
  'Is this the structure of leffa_metadata? Only the category must be there; null says that it does not apply.';
revoke all on function private.is_garment_metadata from public, anon, authenticated, service_role;
grant execute on function private.is_garment_metadata to authenticated, service_role;
alter table studio.wardrobe_garments drop constraint wardrobe_garments_category_known;
alter table studio.wardrobe_garments add constraint wardrobe_garments_metadata_shape
  check (leffa_metadata is null or private.is_garment_metadata(leffa_metadata));

create table studio.garment_analyses (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  garment_id uuid,
  created_by uuid,
  status text not null default 'pending',
  image_version integer not null,
  result jsonb,
  analyzer_version text,
  usage_event_id uuid,
  job_id bigint,
  cost_micro bigint,
  error_code text,
  error_message text,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint garment_analyses_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint garment_analyses_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete set null,
  constraint garment_analyses_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint garment_analyses_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint garment_analyses_status_known check (status in ('pending', 'completed', 'failed', 'cancelled')),
  constraint garment_analyses_ended_has_time check ((status = 'pending') = (completed_at is null)),
  constraint garment_analyses_completed_has_result
    check ((status = 'completed') = (num_nonnulls(result, analyzer_version, cost_micro) = 3)),
  constraint garment_analyses_failed_has_error check ((status = 'failed') = (error_message is not null))
);
comment on table studio.garment_analyses is
  'Requests to have a garment''s picture described by a vision model; the result is on the garment too.';
comment on column studio.garment_analyses.cost_micro is 'What was charged, in micro-units; null until completed.';
comment on column studio.garment_analyses.image_version is
  'The look at the picture that was current when it was asked.';
create unique index garment_analyses_open on studio.garment_analyses (garment_id) where status = 'pending';
create constraint trigger release_deleted_analyses after delete on studio.garment_analyses
  deferrable initially deferred
  for each row when (old.status = 'pending') execute function billing._release_deleted_hold();
create index garment_analyses_garment_id on studio.garment_analyses (garment_id, created_at desc);
create index garment_analyses_workspace_id on studio.garment_analyses (workspace_id, created_at desc, id desc);
create index garment_analyses_created_by on studio.garment_analyses (created_by);
create index garment_analyses_usage_event_id on studio.garment_analyses (usage_event_id);
alter table studio.garment_analyses enable row level security;
create policy "Members may read their workspace's analyses" on studio.garment_analyses for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.garment_analyses from public, anon, authenticated, service_role;
grant select on table studio.garment_analyses to authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('studio.analyze_garment', 'Has a vision model describe a garment''s picture.', 'studio.on_analysis_job',
    interval '30 minutes', 'gemini');

-- Named after the charge that was released before it, if any: a replay is a charge of its own.
create function private.hold_analysis_charge(analysis studio.garment_analyses) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(analysis.workspace_id, 'garment_analysis', 1,
    concat_ws(':', 'garment_analysis', analysis.id, analysis.usage_event_id),
    jsonb_strip_nulls(jsonb_build_object('source_id', analysis.id, 'user_id', analysis.created_by)))).usage_event_id
$$;
comment on function private.hold_analysis_charge(studio.garment_analyses) is 'Authorizes the price of an analysis.';
revoke all on function private.hold_analysis_charge from public, anon, authenticated, service_role;

create function private.analyze_garment(garment_id uuid) returns studio.garment_analyses
language plpgsql security definer
set search_path = ''
as $$
declare
  v_garment studio.wardrobe_garments;
  v_analysis studio.garment_analyses;
begin
  -- the caller's right before any lock, the wallet before the garment
  select * into v_garment from studio.wardrobe_garments g
  where g.id = analyze_garment.garment_id and private.has_role(g.workspace_id, 'viewer');
  if found then
    perform private.require_role(v_garment.workspace_id, 'member');
    perform private.lock_wallets(array[v_garment.workspace_id]);
    select * into v_garment from studio.wardrobe_garments g
    where g.id = analyze_garment.garment_id and g.workspace_id = v_garment.workspace_id for key share;
  end if;
  if v_garment.id is null then
    perform private.fail('unknown_garment', 'There is no such garment.', jsonb_build_object('garment_id', garment_id));
  end if;
  if v_garment.image_status = 'rejected' then
    perform private.refuse_image(v_garment.image_errors);
  elsif v_garment.image_status <> 'accepted' and v_garment.source_url is not null then
    perform private.fail('image_pending', 'The picture has not been fetched from the shop yet.',
      jsonb_build_object('garment_id', garment_id));
  end if;
  perform private.correlate();
  insert into studio.garment_analyses as a (workspace_id, garment_id, created_by, image_version)
  values (v_garment.workspace_id, v_garment.id, auth.uid(), v_garment.image_version)
  on conflict do nothing returning a.* into v_analysis;
  if not found then
    select * into v_analysis from studio.garment_analyses a
    where a.garment_id = v_garment.id and a.status = 'pending';
    return v_analysis;
  end if;
  update studio.garment_analyses a
  set usage_event_id = private.hold_analysis_charge(v_analysis),
    job_id = (select j.job_id from ops.enqueue_job('studio.analyze_garment',
      jsonb_build_object('analysis_id', v_analysis.id), v_analysis.workspace_id, max_attempts => 4,
      key => 'garment_analysis:' || v_analysis.id) j)
  where a.id = v_analysis.id returning a.* into v_analysis;
  return v_analysis;
end $$;
comment on function private.analyze_garment is 'Core of studio.analyze_garment; checks the caller first.';
revoke all on function private.analyze_garment from public, anon, authenticated, service_role;
grant execute on function private.analyze_garment to authenticated, service_role;

-- Has a garment's picture described: category, sleeves, neckline, pattern ... in leffa_metadata when the analysis has
-- completed. Members may. While one is under way, it is the answer. Errors: unknown_garment, role_too_low,
-- image_rejected, image_pending, insufficient_credits, wallet_frozen.
create function studio.analyze_garment(garment_id uuid) returns studio.garment_analyses
language sql
set search_path = ''
as $$ select private.analyze_garment(garment_id) $$;
comment on function studio.analyze_garment is
  'Has a vision model describe a garment: the charge is held and the job enqueued, or nothing happens.';
revoke all on function studio.analyze_garment from public, anon, authenticated, service_role;
grant execute on function studio.analyze_garment to authenticated, service_role;

-- As analyze_garment, of up to 100 garments; either all are asked for or none. Wallets come in the order of the
-- workspaces.
create function studio.analyze_garments(garment_ids uuid[]) returns setof studio.garment_analyses
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if coalesce(cardinality(garment_ids), 0) not between 1 and 100 then
    perform private.fail('invalid_argument', 'garment_ids: must be 1 to 100.', '{"argument": "garment_ids"}');
  end if;
  for v_id in
    select u.id from unnest(garment_ids) u (id) left join studio.wardrobe_garments g on g.id = u.id
    group by u.id, g.workspace_id order by g.workspace_id nulls first, u.id
  loop
    return next private.analyze_garment(v_id);
  end loop;
end $$;
comment on function studio.analyze_garments is 'Has a vision model describe several garments.';
revoke all on function studio.analyze_garments from public, anon, authenticated, service_role;
grant execute on function studio.analyze_garments to authenticated, service_role;
