-- The features and plans of the five apps, as far as their documents state figures. Where none is stated no price is
-- invented: such a plan has none and is not visible, so that nobody can take it before an operator has priced it
-- (billing.change_plan), and its features stand at their defaults.

-- About the workspace itself. Amplify's column says 0 gigabytes where nobody set it, NeoStream counts them without a
-- limit: no figure to hold anybody to. API calls have no limit of their own unless a plan says so.
insert into billing.features
  (slug, kind, unit, description, limit_period, default_enabled, default_limit, sort_order) values
  ('api_access', 'switch', null, 'Programs may call the API', null, false, null, 1),
  ('api_calls', 'limit', 'call', 'Calls of the API', 'month', false, null, 2),
  ('api_calls_per_minute', 'limit', 'call', 'Calls of the API in one minute', null, true, 60, 3),
  ('storage_gb', 'limit', 'gigabyte', 'Files kept', 'total', true, null, 4),
  ('priority_processing', 'switch', null, 'Jobs run before others', null, false, null, 5);

-- Selify: the allowance of a week, in allowance credits of 6 micro-units.
insert into billing.features (slug, kind, app, unit, description, default_enabled, allowance_unit_micro) values
  ('weekly_credits', 'limit', 'selify', 'credit', 'Credits of the week''s allowance', false, 6);

-- Amplify: the switches and limits of subscription_plan_features with the columns' defaults, the limits of
-- thumbnails (once for ever unless a plan says month), and what its usage table counts without a limit.
insert into billing.features (slug, kind, app, unit, description, limit_period, default_enabled, default_limit,
  sort_order) values
  ('videos', 'limit', 'amplify', 'video', 'Videos imported', 'month', false, null, 1),
  ('ai_summaries', 'limit', 'amplify', 'summary', 'Summaries written', 'month', true, null, 2),
  ('analytics_views', 'limit', 'amplify', 'view', 'Views of the figures', 'month', true, null, 3),
  ('thumbnails', 'limit', 'amplify', 'thumbnail', 'Thumbnails made', 'month', true, null, 4),
  ('thumbnail_iterations_16_9', 'limit', 'amplify', 'iteration', 'Rounds of 16:9 thumbnails', 'total', true, 1, 5),
  ('thumbnail_iterations_9_16', 'limit', 'amplify', 'iteration', 'Rounds of 9:16 thumbnails', 'total', true, 1, 6),
  ('social_posts', 'limit', 'amplify', 'post', 'Social posts of one video', null, false, null, 7),
  ('youtube_channels', 'limit', 'amplify', 'channel', 'YouTube channels connected', 'total', true, 1, 8),
  ('team_members', 'limit', 'amplify', 'person', 'People in the team', 'total', true, 1, 9);
insert into billing.features (slug, kind, app, description, default_enabled, sort_order)
select slug, 'switch', 'amplify', description, slug in ('transcript_access', 'summary_access'), 10 + n
from unnest(
  array['analytics_access', 'advanced_analytics', 'transcript_access', 'summary_access', 'chapters_access',
    'blog_post_access', 'podcast_script_access', 'social_posts_access', 'discussion_guide_access', 'quiz_access',
    'quotes_access', 'slide_deck_access', 'ebook_access', 'linkedin_article_access', 'newsletter_access',
    'marketing_funnel_access', 'study_guide_access', 'social_carousel_access', 'group_chat_guide_access',
    'youtube_auto_update', 'shared_workspace', 'white_label', 'custom_domain'],
  array['Figures of videos', 'Figures in depth', 'Transcripts', 'Summaries', 'Chapters', 'Blog posts',
    'Podcast scripts', 'Social posts', 'Discussion guides', 'Quizzes', 'Quotes', 'Slide decks', 'E-books',
    'LinkedIn articles', 'Newsletters', 'Marketing funnels', 'Study guides', 'Social carousels', 'Group chat guides',
    'Titles and descriptions updated on YouTube', 'A workspace for several people', 'No brand of ours shown',
    'A domain of one''s own']) with ordinality as f (slug, description, n);
insert into billing.features (slug, kind, app, description, default_enabled, default_text, sort_order) values
  ('support_level', 'text', 'amplify', 'How support is reached', true, 'email', 40);

-- NeoStream: what its tables count. No limit is stated, so none holds until a plan names one.
insert into billing.features (slug, kind, app, unit, description, limit_period, default_enabled, sort_order) values
  ('sources', 'limit', 'neostream', 'source', 'Stream sources', 'total', true, 1),
  ('destinations', 'limit', 'neostream', 'destination', 'Platforms streamed to', 'total', true, 2),
  ('chat_connectors', 'limit', 'neostream', 'connector', 'Chats connected', 'total', true, 3),
  ('streaming_hours', 'limit', 'neostream', 'hour', 'Hours streamed', 'month', true, 4),
  ('bandwidth_gb', 'limit', 'neostream', 'gigabyte', 'Traffic of streams', 'month', true, 5);

-- Spike Land: tokens are a plan's allowance; what one is worth in micro-units is not stated.
insert into billing.features (slug, kind, app, unit, description, sort_order) values
  ('tokens_per_month', 'limit', 'spikeland', 'token', 'Tokens of the month''s allowance', 1),
  ('max_rollover_tokens', 'limit', 'spikeland', 'token', 'Tokens taken over from the month before', 2);

-- A plan of each tier the documents name, and a free one where they name none. Stated: Selify's free tier has 10,000
-- credits a week (60,000 micro-units, 0.60 USD), Amplify's free tier one video in all.
select billing.change_plan(p.app, p.slug, 'First release', null, jsonb_build_object('name', p.name, 'sort_order', p.n,
  'is_visible', p.slug = 'free') || p.plan, p.features)
from (values
  ('selify', 'free', 'Free', 0, '{"allowance_micro": 60000, "allowance_interval": "week"}'::jsonb,
    '{"weekly_credits": 10000}'::jsonb),
  ('selify', 'starter', 'Starter', 1, '{"allowance_interval": "week"}', '{}'),
  ('selify', 'pro', 'Pro', 2, '{"allowance_interval": "week"}', '{}'),
  ('selify', 'enterprise', 'Enterprise', 3, '{"allowance_interval": "week"}', '{}'),
  ('amplify', 'free', 'Free', 0, '{}', '{"videos": {"limit": 1, "period": "total"}}'),
  ('amplify', 'basic', 'Basic', 1, '{}', '{}'),
  ('amplify', 'premium', 'Premium', 2, '{}', '{}'),
  ('amplify', 'creator', 'Creator', 3, '{}', '{}'),
  ('amplify', 'enterprise', 'Enterprise', 4, '{}', '{}'),
  ('neostream', 'free', 'Free', 0, '{}', '{}'),
  ('spikeland', 'free', 'Free', 0, '{}', '{}'),
  ('spikeland', 'basic', 'Basic', 1, '{}', '{}'),
  ('spikeland', 'standard', 'Standard', 2, '{}', '{}'),
  ('spikeland', 'premium', 'Premium', 3, '{}', '{}'),
  ('liventix', 'free', 'Free', 0, '{}', '{}')) as p (app, slug, name, n, plan, features);
