-- The dashboards' views: what the platform says beside what the bot did, by post and by day; and how an account is.

-- All since the post began. engagement_rate: likes, comments, shares and saves as a part of those reached. revenue: by
-- currency, net of refunds, in hundredths of its unit.
create view social.post_metrics with (security_invoker = true) as
select p.workspace_id, p.connected_account_id as account_id, p.id as post_id, b.id as binding_id, p.platform_post_id,
  p.platform_url, p.caption, p.thumbnail_url, p.posted_at, i.reach, i.views, coalesce(i.likes, p.like_count) as likes,
  coalesce(i.comments, p.comment_count) as comments, i.shares, i.saves,
  private.rate_of(coalesce(i.likes, p.like_count) + coalesce(i.comments, p.comment_count) + coalesce(i.shares, 0)
    + coalesce(i.saves, 0), i.reach) as engagement_rate,
  s.*, c.cost_micro, c.response_ms as avg_response_ms, c.generation_ms as avg_generation_ms, c.last_interaction_at,
  private.rate_of(s.private_reply_sent, s.keyword_matched) as trigger_to_dm_rate,
  private.rate_of(s.photo_received, s.private_reply_sent) as dm_to_photo_rate,
  private.rate_of(s.tryon_completed, s.photo_received) as photo_to_success_rate,
  private.rate_of(s.tryon_completed, s.keyword_matched) as conversion_rate,
  coalesce(r.revenue, '{}') as revenue, i.read_at as insights_read_at
from social.posts p
left join social.post_garment_bindings b on b.post_id = p.id
left join lateral (
  select n.* from social.post_insights n where n.post_id = p.id order by n.day desc limit 1
) i on true
left join lateral (
  select jsonb_object_agg(k.kind, k.interactions) as counts, sum(k.cost_micro)::bigint as cost_micro,
    (max(k.duration_ms / nullif(k.timed, 0)) filter (where k.kind = 'private_reply_sent'))::bigint as response_ms,
    (max(k.duration_ms / nullif(k.timed, 0)) filter (where k.kind = 'tryon_completed'))::bigint as generation_ms,
    max(k.last_at) as last_interaction_at
  from (
    select t.kind, sum(t.interactions) as interactions, sum(t.cost_micro) as cost_micro,
      sum(t.duration_ms) as duration_ms, sum(t.timed) as timed, max(t.starts_at) as last_at
    from social.current_counts t
    where t.of_posts and t.post_id = p.id and t.grain = 'day'
    group by t.kind
  ) k
) c on true
cross join lateral social._step_counts(coalesce(c.counts, '{}')) s
left join lateral (
  select jsonb_object_agg(v.currency, v.net_cents) as revenue from social.revenue_by_post v
  where v.post_id = p.id and v.workspace_id = p.workspace_id
) r on true
where p.deleted_at is null;
comment on view social.post_metrics is
  'Each post with what the platform counted, what the bot did since it began, its rates and its revenue.';
comment on column social.post_metrics.last_interaction_at is 'The day (UTC) of the last step.';
revoke all on table social.post_metrics from public, anon, authenticated, service_role;
grant select on table social.post_metrics to authenticated, service_role;

create view social.account_metrics_daily with (security_invoker = true) as
select coalesce(c.workspace_id, i.workspace_id) as workspace_id, coalesce(c.account_id, i.account_id) as account_id,
  coalesce(c.day, i.day) as day, i.reach, i.views, i.likes, i.comments, i.shares, i.saves, i.followers, s.*,
  c.cost_micro, c.response_ms as avg_response_ms, c.generation_ms as avg_generation_ms,
  private.rate_of(s.keyword_matched, s.comment_received) as trigger_rate,
  private.rate_of(s.conversation_started, s.private_reply_sent) as dm_rate,
  private.rate_of(s.photo_received, s.conversation_started) as photo_rate,
  private.rate_of(s.tryon_completed, s.tryon_requested) as success_rate
from (
  select k.workspace_id, k.account_id, (k.starts_at at time zone 'UTC')::date as day,
    jsonb_object_agg(k.kind, k.interactions) as counts, sum(k.cost_micro)::bigint as cost_micro,
    (max(k.duration_ms / nullif(k.timed, 0)) filter (where k.kind = 'private_reply_sent'))::bigint as response_ms,
    (max(k.duration_ms / nullif(k.timed, 0)) filter (where k.kind = 'tryon_completed'))::bigint as generation_ms
  from (
    select t.workspace_id, t.account_id, t.starts_at, t.kind, sum(t.interactions) as interactions,
      sum(t.cost_micro) as cost_micro, sum(t.duration_ms) as duration_ms, sum(t.timed) as timed
    from social.current_counts t
    where t.grain = 'day' and not t.of_posts
    group by t.workspace_id, t.account_id, t.starts_at, t.kind
  ) k
  group by k.workspace_id, k.account_id, k.starts_at
) c
full join social.account_insights i on i.account_id = c.account_id and i.day = c.day
cross join lateral social._step_counts(coalesce(c.counts, '{}')) s;
comment on view social.account_metrics_daily is
  'Each account by day (UTC): what the platform counted, what the bot did, its rates; metrics_report has other zones.';
revoke all on table social.account_metrics_daily from public, anon, authenticated, service_role;
grant select on table social.account_metrics_daily to authenticated, service_role;

-- Sent messages are counted over the hour and the day before now, as the limits are.
create function private.account_overview(workspace_id uuid)
returns table (account_id uuid, provider text, username text, status text, token_valid boolean,
  token_expires_at timestamptz, health_status text, consecutive_failures integer, error_types jsonb, last_error text,
  last_success_at timestamptz, last_failure_at timestamptz, sent_last_hour bigint, hourly_limit integer,
  sent_last_day bigint, daily_limit integer, sending_resumes_at timestamptz, messages_waiting bigint,
  last_webhook_at timestamptz, webhooks_last_day bigint, webhooks_failed_last_day bigint,
  last_sync_at timestamptz, next_sync_at timestamptz, insights_read_at timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
  perform private.require_role(account_overview.workspace_id, 'viewer');
  return query
  select a.id, a.provider, a.username, a.status, h.token_valid and a.status = 'active', a.token_expires_at,
    h.health_status, h.consecutive_failures, h.error_types, coalesce(a.error_message, y.last_error),
    h.last_success_at, h.last_failure_at, m.last_hour, l.hourly_limit, m.last_day, l.daily_limit,
    case when l.reset_at > private.now() then l.reset_at end, q.waiting, w.last_at, w.last_day, w.failed,
    y.last_sync_completed_at, y.next_sync_at,
    (select max(i.read_at) from social.account_insights i where i.account_id = a.id)
  from integrations.connected_accounts a
  join social.account_health h on h.account_id = a.id
  join social.send_limits l on l.account_id = a.id
  join social.account_sync y on y.account_id = a.id
  cross join lateral (
    select count(*) as last_day, count(*) filter (where s.sent_at > private.now() - interval '1 hour') as last_hour
    from social.messages s
    where s.connected_account_id = a.id and s.direction = 'outbound' and s.source <> 'app'
      and s.sent_at > private.now() - interval '1 day'
  ) m
  cross join lateral (
    select count(*) as waiting from social.messages s where s.connected_account_id = a.id and s.status = 'queued'
  ) q
  cross join lateral (
    select (select max(e.created_at) from ops.webhook_events e where e.connected_account_id = a.id) as last_at,
      count(*) as last_day, count(*) filter (where e.status = 'dead') as failed
    from ops.webhook_events e
    where e.connected_account_id = a.id and e.created_at > private.now() - interval '1 day'
  ) w
  where a.workspace_id = account_overview.workspace_id and a.status <> 'disconnected'
  order by a.connected_at, a.id;
end $$;
comment on function private.account_overview(uuid) is 'Core of social.account_overview.';
revoke all on function private.account_overview from public, anon, authenticated, service_role;
grant execute on function private.account_overview to authenticated, service_role;

create function social.account_overview(workspace_id uuid)
returns table (account_id uuid, provider text, username text, status text, token_valid boolean,
  token_expires_at timestamptz, health_status text, consecutive_failures integer, error_types jsonb, last_error text,
  last_success_at timestamptz, last_failure_at timestamptz, sent_last_hour bigint, hourly_limit integer,
  sent_last_day bigint, daily_limit integer, sending_resumes_at timestamptz, messages_waiting bigint,
  last_webhook_at timestamptz, webhooks_last_day bigint, webhooks_failed_last_day bigint,
  last_sync_at timestamptz, next_sync_at timestamptz, insights_read_at timestamptz)
language sql stable
set search_path = ''
as $$ select * from private.account_overview(account_overview.workspace_id) $$;
comment on function social.account_overview(uuid) is
  'How a workspace''s social accounts are: token, calls, limits used, webhooks, syncs.';
revoke all on function social.account_overview from public, anon, authenticated, service_role;
grant execute on function social.account_overview to authenticated, service_role;
