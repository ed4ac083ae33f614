-- What the bot did and what people did with it: a record for each step of the funnel, written once and never changed.
-- Counts by quarter of an hour, hour and day are made from them the way sums of usage are (see billing.usage_changes):
-- a step never touches a count, it appends itself to what is still to be counted, and a sweep takes it from there as
-- it adds it, in one statement. What is not yet added is read beside the counts, so figures are always current.

create schema if not exists social;
comment on schema social is 'Posts and conversations of social accounts, the bot on them, its funnel and figures.';
revoke all on schema social from public;
grant usage on schema social to anon, authenticated, service_role;

create function private.whole_of(value jsonb) returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select case when jsonb_typeof(value) = 'number' and abs(value::numeric) < 1e15 then round(value::numeric)::bigint end
$$;
comment on function private.whole_of(jsonb) is 'A JSON number rounded to a whole one; null when it is none.';
revoke all on function private.whole_of from public, anon, authenticated, service_role;
grant execute on function private.whole_of to service_role;

-- post_id, conversation_id and creation_id have no foreign keys: what happened stays true when a post is gone, and a
-- crowd of comments on one post would queue at its row.
create table social.bot_interactions (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  account_id uuid not null,
  kind text not null,
  dedupe_key text not null,
  post_id uuid,
  conversation_id uuid,
  creation_id uuid,
  details jsonb not null default '{}',
  duration_ms bigint generated always as (
    private.whole_of(coalesce(details -> 'response_time_ms', details -> 'generation_time_ms'))) stored,
  cost_micro bigint generated always as (private.whole_of(details -> 'cost_micro')) stored,
  occurred_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint bot_interactions_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint bot_interactions_account_id_fkey foreign key (account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint bot_interactions_once unique (account_id, dedupe_key),
  constraint bot_interactions_dedupe_key_length check (char_length(dedupe_key) between 1 and 500),
  constraint bot_interactions_kind_known check (kind in (
    'comment_received', 'keyword_matched', 'private_reply_sent', 'private_reply_failed', 'conversation_started',
    'message_received', 'message_sent', 'send_failed', 'photo_requested', 'photo_received', 'photo_rejected',
    'tryon_requested', 'tryon_refused', 'tryon_completed', 'tryon_failed', 'result_sent', 'promo_sent',
    'result_reaction', 'opted_out', 'opted_in', 'human_takeover', 'human_handback', 'conversation_ended',
    'order_attributed', 'order_refunded')),
  constraint bot_interactions_details_object check (jsonb_typeof(details) = 'object')
);
comment on table social.bot_interactions is
  'Every step of the bot''s funnel, once: comments, replies, conversations, photos, try-ons, results, orders.';
comment on column social.bot_interactions.dedupe_key is 'Names the step within its account, for ever.';
comment on column social.bot_interactions.details is
  'platform_user_id and username where known; trigger_word, error, promo_code and the like by kind.';
comment on column social.bot_interactions.duration_ms is
  'How long the reply or the picture took, in milliseconds; null where nothing is timed.';
comment on column social.bot_interactions.cost_micro is 'What the try-on was charged, in micro-units.';
create index bot_interactions_workspace_id on social.bot_interactions (workspace_id, occurred_at desc, id desc);
create index bot_interactions_account_id on social.bot_interactions (account_id, occurred_at desc, id desc);
create index bot_interactions_post_id on social.bot_interactions (post_id, occurred_at desc) where post_id is not null;
create index bot_interactions_conversation_id on social.bot_interactions (conversation_id, id)
  where conversation_id is not null;
create index bot_interactions_creation_id on social.bot_interactions (creation_id) where creation_id is not null;
-- A step that is to name nobody any more keeps what is counted; its key named a message or comment of the person.
create function private.keep_interaction() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- what is computed from details is not yet there
  v_free constant text[] := '{details,dedupe_key,duration_ms,cost_micro}';
begin
  if new.details = old.details - '{platform_user_id,username,text,comment_id}'::text[]
    and new.dedupe_key in (old.dedupe_key, 'forgotten:' || old.id)
    and to_jsonb(new) - v_free = to_jsonb(old) - v_free then
    return new;
  end if;
  perform private.fail('immutable_row', 'A step of the funnel never changes.');
  return null;
end $$;
comment on function private.keep_interaction() is 'Trigger: of a step only the person may be forgotten.';
revoke all on function private.keep_interaction from public, anon, authenticated, service_role;
create trigger keep_bot_interactions before update on social.bot_interactions
  for each row execute function private.keep_interaction();
alter table social.bot_interactions enable row level security;
revoke all on table social.bot_interactions from public, anon, authenticated, service_role;
grant select on table social.bot_interactions to authenticated, service_role;
create policy "Members see the bot's steps in their workspaces" on social.bot_interactions
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.uncounted_interactions (
  interaction_id bigint primary key,
  workspace_id uuid not null,
  account_id uuid not null,
  post_id uuid,
  kind text not null,
  starts_at timestamptz not null,
  duration_ms bigint,
  cost_micro bigint
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
comment on table social.uncounted_interactions is 'Steps of the funnel that the sweep has not yet added to the counts.';
comment on column social.uncounted_interactions.starts_at is 'The quarter of an hour (UTC) in which the step happened.';
create index uncounted_interactions_account_id on social.uncounted_interactions (account_id);
create index uncounted_interactions_workspace_id on social.uncounted_interactions (workspace_id);
create index uncounted_interactions_post_id on social.uncounted_interactions (post_id) where post_id is not null;
alter table social.uncounted_interactions enable row level security;
revoke all on table social.uncounted_interactions from public, anon, authenticated, service_role;
grant select on table social.uncounted_interactions to authenticated, service_role;
create policy "Members see what is still to be counted in their workspaces" on social.uncounted_interactions
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create function private.note_interactions() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into social.uncounted_interactions (interaction_id, workspace_id, account_id, post_id, kind, starts_at,
    duration_ms, cost_micro)
  select i.id, i.workspace_id, i.account_id, i.post_id, i.kind,
    date_bin(interval '15 minutes', i.occurred_at, timestamptz '2000-01-01 00:00:00+00'), i.duration_ms, i.cost_micro
  from noted i;
  return null;
end $$;
comment on function private.note_interactions() is 'Trigger: new steps of the funnel are to be counted.';
revoke all on function private.note_interactions from public, anon, authenticated, service_role;
create trigger count_bot_interactions after insert on social.bot_interactions
  referencing new table as noted for each statement execute function private.note_interactions();

-- post_id null: steps that belong to no post, so that the posts of an account add up to the account.
create table social.interaction_counts (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  account_id uuid not null,
  of_posts boolean not null,
  post_id uuid,
  grain text not null,
  starts_at timestamptz not null,
  kind text not null,
  interactions bigint not null,
  timed bigint not null,
  duration_ms bigint not null,
  cost_micro bigint not null,
  constraint interaction_counts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint interaction_counts_account_id_fkey foreign key (account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint interaction_counts_bucket_key
    unique nulls not distinct (account_id, of_posts, grain, starts_at, kind, post_id),
  constraint interaction_counts_grain_known check (grain in ('quarter', 'hour', 'day')),
  constraint interaction_counts_of_posts check (of_posts or post_id is null)
) with (fillfactor = 70);
comment on table social.interaction_counts is
  'Steps of the funnel by quarter of an hour, hour and day (UTC) and kind: of each account, and of each of its posts.';
comment on column social.interaction_counts.of_posts is
  'False: of the whole account; true: of one post, or of none where post_id is null.';
comment on column social.interaction_counts.timed is 'How many of the steps have a duration; duration_ms is their sum.';
create index interaction_counts_workspace_id on social.interaction_counts (workspace_id, grain, starts_at);
create index interaction_counts_post_id on social.interaction_counts (post_id, grain, starts_at)
  where post_id is not null;
alter table social.interaction_counts enable row level security;
revoke all on table social.interaction_counts from public, anon, authenticated, service_role;
grant select on table social.interaction_counts to authenticated, service_role;
create policy "Members see the bot's figures in their workspaces" on social.interaction_counts
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- Keeps one step; called again with the same key it does nothing. Returns whether it was new.
create function social.record_interaction(workspace_id uuid, account_id uuid, kind text, dedupe_key text,
  post_id uuid default null, conversation_id uuid default null, creation_id uuid default null,
  details jsonb default '{}') returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  if not exists (select from integrations.connected_accounts a
    where a.id = record_interaction.account_id and a.workspace_id = record_interaction.workspace_id) then
    perform private.fail('unknown_account', 'The workspace has no such account.',
      jsonb_build_object('account_id', account_id));
  end if;
  insert into social.bot_interactions (workspace_id, account_id, kind, dedupe_key, post_id, conversation_id,
    creation_id, details, occurred_at)
  values (record_interaction.workspace_id, record_interaction.account_id, record_interaction.kind,
    record_interaction.dedupe_key, record_interaction.post_id, record_interaction.conversation_id,
    record_interaction.creation_id, jsonb_strip_nulls(coalesce(record_interaction.details, '{}')), private.now())
  on conflict on constraint bot_interactions_once do nothing;
  return found;
end $$;
comment on function social.record_interaction is
  'Keeps one step of the funnel, once for its key; returns whether it was new.';
revoke all on function social.record_interaction from public, anon, authenticated, service_role;
grant execute on function social.record_interaction to service_role;

-- Sweep: adds steps to the counts, up to 50,000; returns how many. Whoever holds the lock is the only one who writes
-- counts. Steps of an account that is gone are gone with it.
create function social.count_interactions() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_taken integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('social.interaction_counts', 0)) then
    return 0;
  end if;
  with taken as (
    delete from social.uncounted_interactions u
    where u.interaction_id in (
      select o.interaction_id from social.uncounted_interactions o order by o.interaction_id limit 50000)
    returning u.*
  ), added as (
    insert into social.interaction_counts as c (workspace_id, account_id, of_posts, post_id, grain, starts_at, kind,
      interactions, timed, duration_ms, cost_micro)
    select t.workspace_id, t.account_id, s.of_posts, case when s.of_posts then t.post_id end, g.grain, g.starts_at,
      t.kind, count(*), count(t.duration_ms), coalesce(sum(t.duration_ms), 0), coalesce(sum(t.cost_micro), 0)
    from taken t
    join integrations.connected_accounts a on a.id = t.account_id
    cross join (values (false), (true)) as s (of_posts)
    cross join lateral (values ('quarter', t.starts_at), ('hour', date_trunc('hour', t.starts_at, 'UTC')),
      ('day', date_trunc('day', t.starts_at, 'UTC'))) as g (grain, starts_at)
    group by t.workspace_id, t.account_id, s.of_posts, case when s.of_posts then t.post_id end, g.grain, g.starts_at,
      t.kind
    on conflict on constraint interaction_counts_bucket_key do update
    set interactions = c.interactions + excluded.interactions, timed = c.timed + excluded.timed,
      duration_ms = c.duration_ms + excluded.duration_ms, cost_micro = c.cost_micro + excluded.cost_micro
  )
  select count(*) into v_taken from taken;
  return v_taken;
end $$;
comment on function social.count_interactions() is
  'Sweep: adds steps of the funnel to the counts, each once; returns how many.';
revoke all on function social.count_interactions from public, anon, authenticated, service_role;
grant execute on function social.count_interactions to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('count bot interactions', 'social.count_interactions', interval '10 seconds');
