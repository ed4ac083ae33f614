-- What is known of a brand as a whole: how it writes (read off its texts by a model, charged like a turn), and figures
-- that its own rows give.

create table ai.brand_intelligence (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  voice_embedding ai.embedding,
  voice_attributes jsonb not null default '{}',
  avg_quality_score numeric(5, 2),
  total_products_generated integer not null default 0,
  conversion_rate numeric(5, 4),
  trending_styles jsonb not null default '[]',
  seasonal_preferences jsonb not null default '{}',
  shared_learnings jsonb not null default '{}',
  analysis_status text not null default 'none',
  analysis_error text,
  analyzed_at timestamptz,
  cost_micro bigint not null default 0,
  usage_event_id uuid,
  job_id bigint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint brand_intelligence_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint brand_intelligence_usage_event_id_fkey foreign key (usage_event_id)
    references billing.usage_events (id),
  constraint brand_intelligence_once unique (workspace_id),
  constraint brand_intelligence_status_known check (analysis_status in ('none', 'pending', 'ready', 'failed')),
  constraint brand_intelligence_failed_says_why check ((analysis_status = 'failed') = (analysis_error is not null)),
  constraint brand_intelligence_shares_in_range check (conversion_rate between 0 and 1
    and avg_quality_score between 0 and 100 and total_products_generated >= 0 and cost_micro >= 0),
  constraint brand_intelligence_json_shapes check (jsonb_typeof(voice_attributes) = 'object'
    and jsonb_typeof(trending_styles) = 'array' and jsonb_typeof(seasonal_preferences) = 'object'
    and jsonb_typeof(shared_learnings) = 'object')
);
comment on table ai.brand_intelligence is
  'A brand''s voice and figures, one row a workspace; cost_micro is what all analyses of the voice cost.';
comment on column ai.brand_intelligence.voice_attributes is
  '{summary, formality, tone: [], vocabulary: [], avoid: [], sample_phrases: []}.';
comment on column ai.brand_intelligence.avg_quality_score is 'Mean quality of the active knowledge, in percent.';
comment on column ai.brand_intelligence.total_products_generated is 'Creations that completed, ever.';
comment on column ai.brand_intelligence.conversion_rate is
  'Share of the customers'' conversations of 90 days that ended in a purchase.';
comment on column ai.brand_intelligence.trending_styles is
  'Tags of the garments created with in 30 days: [{style, creations, before}], before: the 30 days before those.';
comment on column ai.brand_intelligence.seasonal_preferences is
  'Most used tags by quarter of a year: {"q3": ["linen"]}.';
comment on column ai.brand_intelligence.shared_learnings is
  '{most_cited: [{title, citations}], answers, answers_without_source} of 90 days.';
create index brand_intelligence_usage_event_id on ai.brand_intelligence (usage_event_id);
create trigger touch_brand_intelligence before update on ai.brand_intelligence
  for each row execute function private.touch_updated_at();
alter table ai.brand_intelligence enable row level security;
revoke all on table ai.brand_intelligence from public, anon, authenticated, service_role;
grant select on table ai.brand_intelligence to authenticated;
grant select, insert, update, delete on table ai.brand_intelligence to service_role;
create policy "Members see their brands' intelligence" on ai.brand_intelligence
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
