-- The counts of the bot's funnel, held against the steps they were made from.

-- Counts of all steps as they are, in the form of interaction_counts; null: of all accounts.
create function social._true_counts(account_id uuid) returns setof social.interaction_counts
language sql stable
set search_path = ''
as $$
  select null::bigint, i.workspace_id, i.account_id, s.of_posts, case when s.of_posts then i.post_id end, g.grain,
    g.starts_at, i.kind, count(*), count(i.duration_ms), coalesce(sum(i.duration_ms), 0)::bigint,
    coalesce(sum(i.cost_micro), 0)::bigint
  from social.bot_interactions i
  cross join (values (false), (true)) as s (of_posts)
  cross join lateral (values
    ('quarter', date_bin(interval '15 minutes', i.occurred_at, timestamptz '2000-01-01 00:00:00+00')),
    ('hour', date_trunc('hour', i.occurred_at, 'UTC')), ('day', date_trunc('day', i.occurred_at, 'UTC'))
  ) as g (grain, starts_at)
  where _true_counts.account_id is null or i.account_id = _true_counts.account_id
  group by i.workspace_id, i.account_id, s.of_posts, case when s.of_posts then i.post_id end, g.grain, g.starts_at,
    i.kind
$$;
comment on function social._true_counts(uuid) is 'Counts straight from the steps, in the form of interaction_counts.';
revoke all on function social._true_counts from public, anon, authenticated, service_role;

-- Counts and what is still to be added to them: what every reader of figures sees. The caller's row security holds.
create view social.current_counts with (security_invoker = true) as
select c.workspace_id, c.account_id, c.of_posts, c.post_id, c.grain, c.starts_at, c.kind, c.interactions, c.timed,
  c.duration_ms, c.cost_micro
from social.interaction_counts c
union all
select u.workspace_id, u.account_id, false, null, g.grain, g.starts_at, u.kind, 1, (u.duration_ms is not null)::integer,
  coalesce(u.duration_ms, 0), coalesce(u.cost_micro, 0)
from social.uncounted_interactions u
cross join lateral (values ('quarter', u.starts_at), ('hour', date_trunc('hour', u.starts_at, 'UTC')),
  ('day', date_trunc('day', u.starts_at, 'UTC'))) as g (grain, starts_at)
union all
select u.workspace_id, u.account_id, true, u.post_id, g.grain, g.starts_at, u.kind, 1,
  (u.duration_ms is not null)::integer, coalesce(u.duration_ms, 0), coalesce(u.cost_micro, 0)
from social.uncounted_interactions u
cross join lateral (values ('quarter', u.starts_at), ('hour', date_trunc('hour', u.starts_at, 'UTC')),
  ('day', date_trunc('day', u.starts_at, 'UTC'))) as g (grain, starts_at);
comment on view social.current_counts is
  'The bot''s figures as of now, by grain (quarter, hour, day in UTC), kind, account and post; sum them up.';
revoke all on table social.current_counts from public, anon, authenticated, service_role;
grant select on table social.current_counts to authenticated, service_role;

-- A row for each count that is not what its steps say, those still to be added included; none when all are right.
create function social.verify_counts(account uuid default null)
returns table (account_id uuid, subject text, expected bigint, actual bigint)
language sql stable security definer
set search_path = ''
as $$
  select s.account_id, concat_ws('/', s.grain, s.starts_at at time zone 'UTC', s.kind, case when s.of_posts then
    coalesce(s.post_id::text, 'no post') end), coalesce(sum(s.interactions) filter (where s.side = 1), 0)::bigint,
    coalesce(-sum(s.interactions) filter (where s.side = -1), 0)::bigint
  from (
    select 1 as side, t.account_id, t.of_posts, t.post_id, t.grain, t.starts_at, t.kind, t.interactions, t.timed,
      t.duration_ms, t.cost_micro
    from social._true_counts(verify_counts.account) t
    union all
    select -1, c.account_id, c.of_posts, c.post_id, c.grain, c.starts_at, c.kind, -c.interactions, -c.timed,
      -c.duration_ms, -c.cost_micro
    from social.current_counts c
    where verify_counts.account is null or c.account_id = verify_counts.account
  ) s
  group by s.account_id, s.of_posts, s.post_id, s.grain, s.starts_at, s.kind
  having sum(s.interactions) <> 0 or sum(s.timed) <> 0 or sum(s.duration_ms) <> 0 or sum(s.cost_micro) <> 0
$$;
comment on function social.verify_counts(uuid) is
  'Holds the bot''s figures against its steps; a row for each fault, none when sound.';
revoke all on function social.verify_counts from public, anon, authenticated, service_role;
grant execute on function social.verify_counts to service_role;

-- Makes the counts of an account anew from its steps (null: of all), while steps go on being recorded. Reading the
-- steps and taking away those still to be added is one statement: what is not in the one is not in the other.
create function social.rebuild_counts(account uuid default null) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_made integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('social.interaction_counts', 0));
  delete from social.interaction_counts c where rebuild_counts.account is null or c.account_id = rebuild_counts.account;
  with gone as (
    delete from social.uncounted_interactions u
    where rebuild_counts.account is null or u.account_id = rebuild_counts.account
  )
  insert into social.interaction_counts (workspace_id, account_id, of_posts, post_id, grain, starts_at, kind,
    interactions, timed, duration_ms, cost_micro)
  select t.workspace_id, t.account_id, t.of_posts, t.post_id, t.grain, t.starts_at, t.kind, t.interactions, t.timed,
    t.duration_ms, t.cost_micro
  from social._true_counts(rebuild_counts.account) t;
  get diagnostics v_made = row_count;
  return v_made;
end $$;
comment on function social.rebuild_counts(uuid) is 'Makes the bot''s figures anew from its steps; returns how many.';
revoke all on function social.rebuild_counts from public, anon, authenticated, service_role;
grant execute on function social.rebuild_counts to service_role;

-- Sweep: makes wrong counts anew and puts what was wrong into the audit log as critical. Returns how many faults.
create function social.prove_counts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_faults jsonb;
  v_account uuid;
begin
  select coalesce(jsonb_agg(to_jsonb(f)), '[]') into v_faults from social.verify_counts() f;
  if jsonb_array_length(v_faults) > 0 then
    insert into ops.audit_log (event_id, action, resource, target_id, status, error_message, risk_level, metadata)
    values ('bot_figures_proof:' || gen_random_uuid(), 'social.figures.fault', 'social.interaction_counts',
      v_faults -> 0 ->> 'account_id', 'failure', format('%s faults in the bot''s figures',
        jsonb_array_length(v_faults)), 'critical', jsonb_build_object('first', v_faults -> 0));
  end if;
  for v_account in
    select distinct (f ->> 'account_id')::uuid from jsonb_array_elements(v_faults) f order by 1
  loop
    perform social.rebuild_counts(v_account);
  end loop;
  return jsonb_array_length(v_faults);
end $$;
comment on function social.prove_counts() is
  'Sweep: holds the bot''s figures against its steps, makes wrong ones anew; returns how many faults.';
revoke all on function social.prove_counts from public, anon, authenticated, service_role;
grant execute on function social.prove_counts to service_role;
insert into ops.sweeps (name, function_name, every, is_long) values
  ('prove the bot''s figures', 'social.prove_counts', interval '1 day', true);
