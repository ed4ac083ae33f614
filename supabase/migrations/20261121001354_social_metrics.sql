-- What dashboards ask of the bot: figures of an account or a post by hour, day and post in the time zone its people
-- live in, and the funnel with its conversion rates. Everything is summed from social.current_counts.

create type social.step_counts as (
  comment_received bigint, keyword_matched bigint, private_reply_sent bigint, private_reply_failed bigint,
  conversation_started bigint, message_received bigint, message_sent bigint, send_failed bigint,
  photo_requested bigint, photo_received bigint, photo_rejected bigint, tryon_requested bigint, tryon_refused bigint,
  tryon_completed bigint, tryon_failed bigint, result_sent bigint, promo_sent bigint, result_reaction bigint,
  opted_out bigint, opted_in bigint, human_takeover bigint, human_handback bigint, conversation_ended bigint,
  order_attributed bigint, order_refunded bigint
);

create function social._step_counts(counts jsonb) returns setof social.step_counts
language sql immutable
set search_path = ''
as $$
  select (jsonb_populate_record(row(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0)::social.step_counts, _step_counts.counts)).*
$$;
comment on function social._step_counts(jsonb) is 'Counts by kind as columns, nought where a kind has none.';
revoke all on function social._step_counts from public, anon, authenticated, service_role;
grant execute on function social._step_counts to authenticated, service_role;

-- A part of a whole, to four places; null where there is no whole.
create function private.rate_of(part numeric, whole numeric) returns numeric
language sql immutable parallel safe
set search_path = ''
as $$ select trim_scale(round(part / nullif(whole, 0), 4)) $$;
comment on function private.rate_of(numeric, numeric) is 'A part of a whole to four places; null of nothing.';
revoke all on function private.rate_of from public, anon, authenticated, service_role;
grant execute on function private.rate_of to authenticated, service_role;

-- The workspace of an account that the caller may read. Errors: unknown_account.
create function private.workspace_of_account(account_id uuid) returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
  v_workspace_id uuid;
begin
  select a.workspace_id into v_workspace_id from integrations.connected_accounts a
  where a.id = workspace_of_account.account_id;
  if v_workspace_id is null then
    perform private.fail('unknown_account', 'There is no such account among those of your workspaces.',
      jsonb_build_object('account_id', account_id));
  end if;
  return v_workspace_id;
end $$;
comment on function private.workspace_of_account(uuid) is 'Whose account it is, for those who may read it.';
revoke all on function private.workspace_of_account from public, anon, authenticated, service_role;
grant execute on function private.workspace_of_account to authenticated, service_role;

-- What was counted in the days from_day to to_day (both included; by default the last 30) of a time zone (by default
-- the workspace's), summed by any of day, hour and post, of one post if post_id is given; what is not summed by is
-- null. cost_micro is what the try-ons were charged. Errors: unknown_account, invalid_argument, invalid_timezone.
create function social.metrics_report(account_id uuid, from_day date default null, to_day date default null,
  group_by text[] default '{day}', timezone text default null, post_id uuid default null)
returns table (starts_at timestamptz, day date, by_post_id uuid, comment_received bigint, keyword_matched bigint,
  private_reply_sent bigint, private_reply_failed bigint, conversation_started bigint, message_received bigint,
  message_sent bigint, send_failed bigint, photo_requested bigint, photo_received bigint, photo_rejected bigint,
  tryon_requested bigint, tryon_refused bigint, tryon_completed bigint, tryon_failed bigint, result_sent bigint,
  promo_sent bigint, result_reaction bigint, opted_out bigint, opted_in bigint, human_takeover bigint,
  human_handback bigint, conversation_ended bigint, order_attributed bigint, order_refunded bigint,
  avg_response_ms bigint, avg_generation_ms bigint, cost_micro bigint)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_timezone text := billing._timezone(private.workspace_of_account(metrics_report.account_id),
    metrics_report.timezone);
  v_range record;
  v_unit text := case when 'hour' = any (group_by) then 'hour' when 'day' = any (group_by) then 'day' end;
  v_by_post boolean := 'post' = any (group_by);
  v_of_posts boolean := v_by_post or metrics_report.post_id is not null;
begin
  if group_by is null or not group_by <@ '{day,hour,post}'::text[] then
    perform private.fail('invalid_argument', 'group_by may name day, hour and post.', '{"argument": "group_by"}');
  end if;
  select * into v_range from billing._day_range(from_day, to_day, v_timezone);
  return query
  with kinds as (
    select date_trunc(v_unit, c.starts_at, v_timezone) as starts_at, case when v_by_post then c.post_id end as post_id,
      c.kind, sum(c.interactions)::bigint as interactions, sum(c.timed) as timed, sum(c.duration_ms) as duration_ms,
      sum(c.cost_micro) as cost_micro
    from social.current_counts c
    where c.account_id = metrics_report.account_id and c.of_posts = v_of_posts
      and (metrics_report.post_id is null or c.post_id = metrics_report.post_id)
      and c.starts_at >= v_range.from_at and c.starts_at < v_range.to_at
      and c.grain = billing._usage_grain(v_range.from_at, v_range.to_at, v_timezone, v_unit is not distinct from 'hour')
    group by 1, 2, 3
  ), buckets as (
    select k.starts_at, k.post_id, jsonb_object_agg(k.kind, k.interactions) as counts,
      (sum(k.duration_ms) filter (where k.kind = 'private_reply_sent')
        / nullif(sum(k.timed) filter (where k.kind = 'private_reply_sent'), 0))::bigint as response_ms,
      (sum(k.duration_ms) filter (where k.kind = 'tryon_completed')
        / nullif(sum(k.timed) filter (where k.kind = 'tryon_completed'), 0))::bigint as generation_ms,
      sum(k.cost_micro)::bigint as cost_micro
    from kinds k
    group by k.starts_at, k.post_id
  )
  select b.starts_at, (b.starts_at at time zone v_timezone)::date, b.post_id, s.*, b.response_ms, b.generation_ms,
    b.cost_micro
  from buckets b
  cross join lateral social._step_counts(b.counts) s
  order by b.starts_at, b.post_id;
end $$;
comment on function social.metrics_report is
  'The bot''s figures of an account over days of a time zone, by day, hour and post; always current.';
revoke all on function social.metrics_report from public, anon, authenticated, service_role;
grant execute on function social.metrics_report to authenticated, service_role;

-- The way from a comment to an order, step by step. from_previous and from_first are parts of one (0.25: a quarter),
-- null where there was nothing before. More may have come from a step than went into it: people write without a
-- comment, and what began before the days is not in them.
create function social.funnel(account_id uuid, from_day date default null, to_day date default null,
  timezone text default null, post_id uuid default null)
returns table (step integer, kind text, interactions bigint, from_previous numeric, from_first numeric)
language sql stable
set search_path = ''
as $$
  with report as (
    select to_jsonb(r) as counts from social.metrics_report(funnel.account_id, funnel.from_day, funnel.to_day, '{}',
      funnel.timezone, funnel.post_id) r
  ), steps as (
    select s.step::integer as step, s.kind, coalesce((select (r.counts ->> s.kind)::bigint from report r), 0) as number
    from unnest(array['comment_received', 'keyword_matched', 'private_reply_sent', 'conversation_started',
      'photo_received', 'tryon_requested', 'tryon_completed', 'result_sent', 'order_attributed'])
      with ordinality as s (kind, step)
  )
  select s.step, s.kind, s.number, private.rate_of(s.number, lag(s.number) over (order by s.step)),
    private.rate_of(s.number, first_value(s.number) over (order by s.step))
  from steps s
  order by s.step
$$;
comment on function social.funnel is 'The funnel of an account or a post over days of a time zone, with its rates.';
revoke all on function social.funnel from public, anon, authenticated, service_role;
grant execute on function social.funnel to authenticated, service_role;

-- For clients that filter and page by themselves, in UTC; other time zones: metrics_report.
create view social.account_metrics_hourly with (security_invoker = true) as
select b.workspace_id, b.account_id, b.starts_at, s.*, b.duration_ms, b.cost_micro
from (
  select k.workspace_id, k.account_id, k.starts_at, jsonb_object_agg(k.kind, k.interactions) as counts,
    sum(k.duration_ms)::bigint as duration_ms, sum(k.cost_micro)::bigint as cost_micro
  from (
    select c.workspace_id, c.account_id, c.starts_at, c.kind, sum(c.interactions) as interactions,
      sum(c.duration_ms) as duration_ms, sum(c.cost_micro) as cost_micro
    from social.current_counts c
    where c.grain = 'hour' and not c.of_posts
    group by c.workspace_id, c.account_id, c.starts_at, c.kind
  ) k
  group by k.workspace_id, k.account_id, k.starts_at
) b
cross join lateral social._step_counts(b.counts) s;
comment on view social.account_metrics_hourly is 'The bot''s figures of each account by hour (UTC), as of now.';
revoke all on table social.account_metrics_hourly from public, anon, authenticated, service_role;
grant select on table social.account_metrics_hourly to authenticated, service_role;
