-- The analysis of a brand: its figures at once, its voice by a job that asks a model.

create function private.style_counts(workspace_id uuid, since timestamptz, until timestamptz)
returns table (style text, month integer, creations bigint)
language sql stable
set search_path = ''
as $$
  select t.tag, extract(quarter from c.created_at)::integer, count(*)
  from studio.creations c
  join studio.wardrobe_garments g on g.id = c.garment_id
  cross join lateral unnest(g.tags) as t (tag)
  where c.workspace_id = style_counts.workspace_id and c.status = 'completed'
    and c.created_at >= style_counts.since and c.created_at < style_counts.until
  group by 1, 2
$$;
comment on function private.style_counts is 'How often garments of each tag were created with, by quarter.';
revoke all on function private.style_counts from public, anon, authenticated, service_role;

create function private.brand_learnings(workspace_id uuid) returns jsonb
language sql stable
set search_path = ''
as $$
  with answers as (
    select m.citations from ai.conversation_messages m
    where m.workspace_id = brand_learnings.workspace_id and m.role = 'assistant'
      and m.created_at > private.now() - interval '90 days'
  )
  select jsonb_build_object('answers', (select count(*) from answers),
    'answers_without_source', (select count(*) from answers a where a.citations = '{}'),
    'most_cited', (select coalesce(jsonb_agg(jsonb_build_object('title', x.source_title, 'citations', x.times)
        order by x.times desc, x.source_title), '[]')
      from (select k.source_title, count(*) as times from answers a cross join lateral unnest(a.citations) c (id)
        join ai.knowledge_chunks k on k.id = c.id group by 1 order by 2 desc, 1 limit 10) x))
$$;
comment on function private.brand_learnings(uuid) is 'What the assistant''s answers of 90 days were drawn from.';
revoke all on function private.brand_learnings from public, anon, authenticated, service_role;

create function private.refresh_brand_figures(workspace_id uuid) returns ai.brand_intelligence
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := private.now();
  v_row ai.brand_intelligence;
begin
  insert into ai.brand_intelligence (workspace_id) values (refresh_brand_figures.workspace_id)
  on conflict on constraint brand_intelligence_once do nothing;
  update ai.brand_intelligence b
  set total_products_generated = (select count(*) from studio.creations c
      where c.workspace_id = b.workspace_id and c.status = 'completed'),
    avg_quality_score = (select round(100 * avg(k.quality_score), 2) from ai.knowledge_chunks k
      where k.workspace_id = b.workspace_id and k.is_active),
    conversion_rate = (select round(avg((s.conversion_value_cents > 0)::integer), 4) from ai.conversation_sessions s
      where s.workspace_id = b.workspace_id and s.channel <> 'app' and s.ended_at > v_now - interval '90 days'),
    trending_styles = (select coalesce(jsonb_agg(jsonb_build_object('style', x.style, 'creations', x.fresh,
        'before', x.earlier) order by x.fresh desc, x.style), '[]')
      from (select n.style, sum(n.creations) as fresh, coalesce((select sum(o.creations)
          from private.style_counts(b.workspace_id, v_now - interval '60 days', v_now - interval '30 days') o
          where o.style = n.style), 0) as earlier
        from private.style_counts(b.workspace_id, v_now - interval '30 days', v_now + interval '1 day') n
        group by n.style order by 2 desc, 1 limit 10) x),
    seasonal_preferences = (select coalesce(jsonb_object_agg('q' || q.month, q.styles), '{}')
      from (select r.month, jsonb_agg(r.style order by r.place) as styles
        from (select n.month, n.style,
            row_number() over (partition by n.month order by n.creations desc, n.style) as place
          from private.style_counts(b.workspace_id, v_now - interval '1 year', v_now + interval '1 day') n) r
        where r.place <= 5 group by r.month) q),
    shared_learnings = private.brand_learnings(b.workspace_id)
  where b.workspace_id = refresh_brand_figures.workspace_id
  returning * into v_row;
  return v_row;
end $$;
comment on function private.refresh_brand_figures(uuid) is 'Counts a brand''s figures anew.';
revoke all on function private.refresh_brand_figures from public, anon, authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('analysis_under_way', 'PT409', 'Wait for the analysis that is being made.');

-- A quarter of a turn's units are enough for one question with a page of samples.
create function private.hold_brand_analysis(brand ai.brand_intelligence) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(brand.workspace_id, 'assistant', private.turn_limit() / 4,
    concat_ws(':', 'brand', brand.id, brand.usage_event_id),
    jsonb_build_object('source_id', brand.id, 'service_subtype', 'brand_analysis'))).usage_event_id
$$;
comment on function private.hold_brand_analysis(ai.brand_intelligence) is
  'Authorizes an analysis; each charge is named after the one before it.';
revoke all on function private.hold_brand_analysis from public, anon, authenticated, service_role;

create function private.analyze_voice(workspace_id uuid) returns ai.brand_intelligence
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_brand ai.brand_intelligence;
begin
  perform private.require_role(analyze_voice.workspace_id, 'editor');
  -- before the brand, as whoever ends an analysis does
  perform private.lock_wallets(array[analyze_voice.workspace_id]);
  perform private.refresh_brand_figures(analyze_voice.workspace_id);
  select * into v_brand from ai.brand_intelligence b
  where b.workspace_id = analyze_voice.workspace_id for no key update;
  if v_brand.analysis_status = 'pending' then
    return v_brand;
  end if;
  perform private.correlate();
  update ai.brand_intelligence b
  set analysis_status = 'pending', analysis_error = null, usage_event_id = private.hold_brand_analysis(v_brand),
    job_id = (select j.job_id from ops.enqueue_job('ai.analyze_brand',
      jsonb_build_object('workspace_id', v_brand.workspace_id), v_brand.workspace_id, max_attempts => 4) j)
  where b.id = v_brand.id returning * into v_brand;
  return v_brand;
end $$;
comment on function private.analyze_voice(uuid) is 'Core of ai.analyze_brand.';
revoke all on function private.analyze_voice from public, anon, authenticated, service_role;
grant execute on function private.analyze_voice to authenticated, service_role;

create function ai.analyze_brand(workspace_id uuid) returns ai.brand_intelligence
language sql
set search_path = ''
as $$ select private.analyze_voice(analyze_brand.workspace_id) $$;
comment on function ai.analyze_brand(uuid) is
  'Counts the brand''s figures anew and has its voice read off its texts; the analysis under way is answered.';
revoke all on function ai.analyze_brand from public, anon, authenticated, service_role;
grant execute on function ai.analyze_brand to authenticated, service_role;

create function ai.brand_samples(workspace_id uuid) returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object('name', w.name, 'description', w.description,
    'settings', (select coalesce(jsonb_agg(jsonb_build_object('name', s.brand_name, 'voice', s.brand_voice,
        'tone', s.tone_keywords, 'avoid', s.avoid_keywords, 'story', left(s.brand_story, 2000),
        'titles', s.sample_titles)), '[]')
      from (select * from commerce.brand_settings s where s.workspace_id = w.id order by s.created_at limit 3) s),
    'texts', (select coalesce(jsonb_agg(left(c.content, 600)), '[]')
      from (select k.content from ai.knowledge_chunks k where k.workspace_id = w.id and k.is_active
        order by k.quality_score desc nulls last, k.id limit 12) c))
  from identity.workspaces w where w.id = brand_samples.workspace_id
$$;
comment on function ai.brand_samples(uuid) is 'What a brand''s voice is read off: its settings and its best texts.';
revoke all on function ai.brand_samples from public, anon, authenticated, service_role;
grant execute on function ai.brand_samples to service_role;

create function ai.store_brand_voice(workspace_id uuid, attributes jsonb, embedding jsonb) returns void
language sql
set search_path = ''
as $$
  update ai.brand_intelligence b
  set voice_attributes = attributes, voice_embedding = private.embedding_of(embedding)
  where b.workspace_id = store_brand_voice.workspace_id
$$;
comment on function ai.store_brand_voice(uuid, jsonb, jsonb) is 'Stores what a model read of a brand''s voice.';
revoke all on function ai.store_brand_voice from public, anon, authenticated, service_role;
grant execute on function ai.store_brand_voice to service_role;

-- on_event of ai.analyze_brand. A brand has one analysis at a time, by the job that its row names: how another ends, or
-- that it is put back into the queue, must not touch that one's charge.
create function ai.on_brand_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_brand ai.brand_intelligence;
  v_cost bigint := 0;
begin
  if event = 'progressed' then
    return;
  end if;
  perform private.lock_wallets(array[job.workspace_id]);
  select * into v_brand from ai.brand_intelligence b
  where b.workspace_id = (job.payload ->> 'workspace_id')::uuid for no key update;
  if v_brand.id is null then
    return;
  elsif event = 'replayed' then
    if v_brand.analysis_status = 'pending' then
      perform private.fail('analysis_under_way', 'The brand is being analysed by another job.',
        jsonb_build_object('job_id', v_brand.job_id));
    end if;
    update ai.brand_intelligence b set analysis_status = 'pending', analysis_error = null, job_id = job.id,
      usage_event_id = private.hold_brand_analysis(v_brand) where b.id = v_brand.id;
    return;
  elsif v_brand.job_id is distinct from job.id then
    return;
  elsif event = 'completed' then
    v_cost := (billing.capture_usage(v_brand.usage_event_id, least(private.turn_limit() / 4, private.turn_units(
      (job.output ->> 'input_tokens')::integer, (job.output ->> 'output_tokens')::integer)))).amount_micro;
  else
    perform billing.release_usage(v_brand.usage_event_id, coalesce(job.error, event));
  end if;
  update ai.brand_intelligence b
  set analysis_status = case event when 'completed' then 'ready' when 'dead' then 'failed' else 'none' end,
    analysis_error = case event when 'dead' then case when job.error ~ '^[a-z][a-z_]*: ' then job.error
      else 'internal_error: The work failed for a reason on our side.' end end,
    analyzed_at = case event when 'completed' then private.now() else b.analyzed_at end,
    cost_micro = b.cost_micro + v_cost
  where b.id = v_brand.id;
end $$;
comment on function ai.on_brand_job(ops.jobs, text) is 'Settles the charge of an analysis as its job ends.';
revoke all on function ai.on_brand_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('ai.analyze_brand', 'Reads a brand''s voice off its texts.', 'ai.on_brand_job', interval '2 hours', 'gemini');

-- What the assistant tells of a workspace, and a dashboard shows: figures of the last days.
create function ai.workspace_metrics(workspace_id uuid, days integer default 30)
returns table (products bigint, products_in_stock bigint, creations bigint, creations_completed bigint,
  spent_micro bigint, conversations bigint, messages bigint, knowledge_chunks bigint, orders bigint,
  revenue_cents jsonb)
language sql stable
set search_path = ''
as $$
  with span as (select private.now() - make_interval(days => least(greatest(coalesce(days, 30), 1), 365)) as since)
  select (select count(*) from commerce.shopify_products p
      where p.workspace_id = workspace_metrics.workspace_id and p.deleted_at is null),
    (select count(*) from commerce.shopify_products p
      where p.workspace_id = workspace_metrics.workspace_id and p.deleted_at is null and p.has_variants_in_stock),
    (select count(*) from studio.creations c
      where c.workspace_id = workspace_metrics.workspace_id and c.created_at >= s.since),
    (select count(*) from studio.creations c where c.workspace_id = workspace_metrics.workspace_id
      and c.created_at >= s.since and c.status = 'completed'),
    (select coalesce(sum(e.captured_micro - e.refunded_micro), 0)::bigint from billing.usage_events e
      where e.workspace_id = workspace_metrics.workspace_id and e.created_at >= s.since),
    (select count(*) from ai.conversation_sessions v
      where v.workspace_id = workspace_metrics.workspace_id and v.last_activity_at >= s.since),
    (select count(*) from ai.conversation_messages m
      where m.workspace_id = workspace_metrics.workspace_id and m.created_at >= s.since),
    (select count(*) from ai.knowledge_chunks k
      where k.workspace_id = workspace_metrics.workspace_id and k.is_active),
    (select count(*) from commerce.orders o where o.workspace_id = workspace_metrics.workspace_id
      and o.ordered_at >= s.since and o.paid_at is not null and o.cancelled_at is null and not o.is_test),
    (select coalesce(jsonb_object_agg(r.currency, r.cents), '{}') from (
      select o.currency, sum(o.total_cents - o.refunded_cents) as cents from commerce.orders o
      where o.workspace_id = workspace_metrics.workspace_id and o.ordered_at >= s.since and o.paid_at is not null
        and o.cancelled_at is null and not o.is_test group by 1) r)
  from span s
$$;
comment on function ai.workspace_metrics(uuid, integer) is
  'Figures of a workspace''s last days: catalog, creations, spending, conversations, sales by currency.';
revoke all on function ai.workspace_metrics from public, anon, authenticated, service_role;
grant execute on function ai.workspace_metrics to authenticated, service_role;
