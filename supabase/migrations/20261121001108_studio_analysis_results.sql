-- What the end of an analysis does, in the transaction that ends its job.

-- on_event of studio.analyze_garment: keeps analysis, garment, charge and job in step. The garment comes before the
-- analysis, because deleting a garment locks that first.
create function studio.on_analysis_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_analysis studio.garment_analyses;
begin
  if job.workspace_id is not null then
    perform private.share_studio(job.workspace_id);
  end if;
  select * into v_analysis from studio.garment_analyses a where a.id = (job.payload ->> 'analysis_id')::uuid;
  if not found then
    if event = 'replayed' then
      perform private.fail('unknown_garment', 'The garment''s workspace has been deleted.', job.payload);
    end if;
    return;
  end if;
  case event
    when 'completed' then
      perform private.complete_analysis(v_analysis, job.output);
    when 'dead' then
      perform private.abandon_analysis(v_analysis, 'failed', job.error);
    when 'cancelled' then
      perform private.abandon_analysis(v_analysis, 'cancelled', null);
    when 'replayed' then
      update studio.garment_analyses a
      set status = 'pending', error_code = null, error_message = null, completed_at = null,
        usage_event_id = private.hold_analysis_charge(v_analysis)
      where a.id = v_analysis.id;
    else
      return;
  end case;
end $$;
comment on function studio.on_analysis_job(ops.jobs, text) is
  'Settles an analysis and its charge in the transaction that ends its job.';
revoke all on function studio.on_analysis_job from public, anon, authenticated, service_role;

-- output: {"metadata", "analyzer_version"}. A picture that was replaced meanwhile is not what was described: the
-- analysis is done and paid, the garment stays undescribed.
create function private.complete_analysis(analysis studio.garment_analyses, output jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_metadata jsonb := output -> 'metadata' || jsonb_build_object('analyzed_at', private.now(),
    'analyzer_version', output ->> 'analyzer_version');
  v_charge billing.usage_result;
begin
  if private.is_garment_metadata(v_metadata) is not true then
    perform private.fail('invalid_garment_metadata', 'The model''s answer has another structure.', output);
  end if;
  v_charge := billing.capture_usage(analysis.usage_event_id, 1);
  update studio.wardrobe_garments g set leffa_metadata = v_metadata
  where g.id = analysis.garment_id and g.image_version = analysis.image_version;
  update studio.garment_analyses a
  set status = 'completed', result = v_metadata, analyzer_version = output ->> 'analyzer_version',
    cost_micro = v_charge.amount_micro, completed_at = private.now()
  where a.id = analysis.id;
end $$;
comment on function private.complete_analysis(studio.garment_analyses, jsonb) is
  'Captures the charge of an analysis and describes the garment.';
revoke all on function private.complete_analysis from public, anon, authenticated, service_role;

-- Errors of ours are written to be read; what others said stays with the job.
create function private.abandon_analysis(analysis studio.garment_analyses, status text, error text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_error text := case when status <> 'failed' then null when error ~ '^[a-z][a-z_]*: ' then error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  perform billing.release_usage(analysis.usage_event_id, coalesce(v_error, status));
  update studio.garment_analyses a
  set status = abandon_analysis.status, error_message = v_error, error_code = split_part(v_error, ':', 1),
    completed_at = private.now()
  where a.id = analysis.id;
end $$;
comment on function private.abandon_analysis(studio.garment_analyses, text, text) is
  'Releases the charge of an analysis that will not complete.';
revoke all on function private.abandon_analysis from public, anon, authenticated, service_role;

-- What a job describes; nothing when that is gone or has ended.
create function studio.analysis_of(analysis_id uuid)
returns table (workspace_id uuid, bucket text, path text, max_bytes bigint)
language sql stable
set search_path = ''
as $$
  select g.workspace_id, 'studio-uploads', g.storage_path, r.max_bytes
  from studio.garment_analyses a
  join studio.wardrobe_garments g on g.id = a.garment_id
  join studio.picture_rules r on r.kind = 'garment'
  where a.id = analysis_of.analysis_id and a.status = 'pending'
$$;
comment on function studio.analysis_of(uuid) is 'The picture that an analysis is of.';
revoke all on function studio.analysis_of from public, anon, authenticated, service_role;
grant execute on function studio.analysis_of to service_role;

-- Rows that clients watch: pictures that are checked, analyses that end, collections that catch up.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table studio.wardrobe_garments, studio.models, studio.garment_analyses,
      studio.wardrobe_collections;
  end if;
end $$;
