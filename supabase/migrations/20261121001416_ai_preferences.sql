-- What is known of a customer's taste, with how sure it is. Confidence halves every 90 days in which nothing confirms
-- it.

create table ai.customer_preferences (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  customer_id uuid,
  anonymous_id text,
  category text not null,
  preference_key text not null,
  preference_value jsonb not null,
  confidence numeric(3, 2) not null default 0.5,
  source text not null default 'explicit',
  last_confirmed_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint customer_preferences_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint customer_preferences_one_customer check (num_nonnulls(customer_id, anonymous_id) = 1),
  constraint customer_preferences_names check (category ~ '^[a-z][a-z0-9_]{0,59}$'
    and preference_key ~ '^[a-z][a-z0-9_]{0,59}$' and source ~ '^[a-z][a-z_]{0,39}$'),
  constraint customer_preferences_anonymous_length check (length(anonymous_id) between 1 and 255),
  constraint customer_preferences_value_length check (length(preference_value::text) <= 4000),
  constraint customer_preferences_confidence_in_range check (confidence between 0 and 0.99)
);
comment on table ai.customer_preferences is
  'Long-term preferences of a workspace''s customers, known or anonymous, as sure as what was seen made them.';
comment on column ai.customer_preferences.confidence is
  'As of last_confirmed_at; what it is now is in ai.customer_profile().';
create unique index customer_preferences_customer
  on ai.customer_preferences (workspace_id, customer_id, category, preference_key) where customer_id is not null;
create unique index customer_preferences_anonymous
  on ai.customer_preferences (workspace_id, anonymous_id, category, preference_key) where anonymous_id is not null;
create index customer_preferences_workspace_id on ai.customer_preferences (workspace_id, last_confirmed_at desc, id);
create index customer_preferences_last_confirmed on ai.customer_preferences (last_confirmed_at);
create trigger touch_customer_preferences before update on ai.customer_preferences
  for each row execute function private.touch_updated_at();
alter table ai.customer_preferences enable row level security;
revoke all on table ai.customer_preferences from public, anon, authenticated, service_role;
grant select, delete on table ai.customer_preferences to authenticated;
grant select, insert, update, delete on table ai.customer_preferences to service_role;
create policy "Members see the preferences of their workspaces' customers" on ai.customer_preferences
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may have a preference forgotten" on ai.customer_preferences
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create function private.decayed(confidence numeric, since timestamptz, now timestamptz) returns numeric
language sql immutable
set search_path = ''
as $$
  select trim_scale(round(confidence * power(0.5, greatest(0, extract(epoch from now - since)) / (90 * 86400)), 4))
$$;
comment on function private.decayed(numeric, timestamptz, timestamptz) is
  'A confidence after some time; half of it each 90 days.';
revoke all on function private.decayed from public, anon, authenticated, service_role;
grant execute on function private.decayed to authenticated, service_role;

-- The rule of merging. The same again: what neither observation got wrong, 1 - (1 - a)(1 - b), at most 0.99. Another
-- value: the surer one stays or comes, weakened by half of the other.
create function private.merged_preference(old ai.customer_preferences, value jsonb, confidence numeric, source text)
returns ai.customer_preferences
language plpgsql stable
set search_path = ''
as $$
declare
  v_merged ai.customer_preferences := old;
  v_old numeric := private.decayed(old.confidence, old.last_confirmed_at, private.now());
begin
  if old.preference_value = value then
    v_merged.confidence := least(0.99, 1 - (1 - v_old) * (1 - confidence));
    v_merged.source := source;
  elsif confidence >= v_old then
    v_merged.preference_value := value;
    v_merged.confidence := confidence * (1 - v_old / 2);
    v_merged.source := source;
  else
    v_merged.confidence := v_old * (1 - confidence / 2);
  end if;
  v_merged.last_confirmed_at := private.now();
  return v_merged;
end $$;
comment on function private.merged_preference is 'A preference after another observation of it.';
revoke all on function private.merged_preference from public, anon, authenticated, service_role;

create function private.note_preference(workspace_id uuid, category text, preference_key text, preference_value jsonb,
  customer_id uuid, anonymous_id text, confidence numeric, source text) returns ai.customer_preferences
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_old ai.customer_preferences;
  v_new ai.customer_preferences;
  v_wrong text := case
    when num_nonnulls(customer_id, anonymous_id) <> 1 then 'customer_id: exactly one of it and anonymous_id'
    when category is null or category !~ '^[a-z][a-z0-9_]{0,59}$' then 'category: must be a short name such as style'
    when preference_key is null or preference_key !~ '^[a-z][a-z0-9_]{0,59}$'
      then 'preference_key: must be a short name such as colour'
    when preference_value is null or length(preference_value::text) > 4000 then 'preference_value: must be a JSON value'
    when confidence is null or confidence not between 0.01 and 0.99 then 'confidence: must be 0.01 to 0.99'
    when source is null or source !~ '^[a-z][a-z_]{0,39}$' then 'source: must be a short name such as explicit'
    when length(anonymous_id) not between 1 and 255 then 'anonymous_id: must have 1 to 255 characters' end;
begin
  perform private.require_role(note_preference.workspace_id, 'member');
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  insert into ai.customer_preferences (workspace_id, customer_id, anonymous_id, category, preference_key,
    preference_value, confidence, source, last_confirmed_at)
  values (note_preference.workspace_id, note_preference.customer_id, note_preference.anonymous_id,
    note_preference.category, note_preference.preference_key, note_preference.preference_value,
    note_preference.confidence, note_preference.source, private.now())
  on conflict do nothing returning * into v_new;
  if v_new.id is not null then
    return v_new;
  end if;
  select * into v_old from ai.customer_preferences p
  where p.workspace_id = note_preference.workspace_id and p.category = note_preference.category
    and p.preference_key = note_preference.preference_key
    and (p.customer_id = note_preference.customer_id or p.anonymous_id = note_preference.anonymous_id) for update;
  v_new := private.merged_preference(v_old, note_preference.preference_value, note_preference.confidence,
    note_preference.source);
  update ai.customer_preferences p
  set preference_value = v_new.preference_value, confidence = v_new.confidence, source = v_new.source,
    last_confirmed_at = v_new.last_confirmed_at
  where p.id = v_old.id returning * into v_new;
  return v_new;
end $$;
comment on function private.note_preference is 'Core of ai.note_preference.';
revoke all on function private.note_preference from public, anon, authenticated, service_role;
grant execute on function private.note_preference to authenticated, service_role;

create function ai.note_preference(workspace_id uuid, category text, preference_key text, preference_value jsonb,
  customer_id uuid default null, anonymous_id text default null, confidence numeric default 0.5,
  source text default 'explicit') returns ai.customer_preferences
language sql
set search_path = ''
as $$
  select private.note_preference(note_preference.workspace_id, note_preference.category,
    note_preference.preference_key, note_preference.preference_value, note_preference.customer_id,
    note_preference.anonymous_id, note_preference.confidence, note_preference.source)
$$;
comment on function ai.note_preference is
  'Notes what a customer prefers: the same again makes it surer, something else less sure or replaces it.';
revoke all on function ai.note_preference from public, anon, authenticated, service_role;
grant execute on function ai.note_preference to authenticated, service_role;

create function ai.customer_profile(workspace_id uuid, customer_id uuid default null, anonymous_id text default null,
  minimum_confidence numeric default 0.2)
returns table (category text, preference_key text, preference_value jsonb, confidence numeric, source text,
  last_confirmed_at timestamptz)
language sql stable
set search_path = ''
as $$
  select p.category, p.preference_key, p.preference_value, d.confidence, p.source, p.last_confirmed_at
  from ai.customer_preferences p
  cross join lateral (select private.decayed(p.confidence, p.last_confirmed_at, private.now()) as confidence) d
  where p.workspace_id = customer_profile.workspace_id
    and (p.customer_id = customer_profile.customer_id or p.anonymous_id = customer_profile.anonymous_id)
    and d.confidence >= customer_profile.minimum_confidence
  order by d.confidence desc, p.category, p.preference_key
$$;
comment on function ai.customer_profile is 'What a customer prefers, as sure as it is now, the surest first.';
revoke all on function ai.customer_profile from public, anon, authenticated, service_role;
grant execute on function ai.customer_profile to authenticated, service_role;

-- The visitor turns out to be a customer: both profiles are merged by the rule, conversations move over.
create function private.identify_customer(workspace_id uuid, anonymous_id text, customer_id uuid) returns integer
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_preference ai.customer_preferences;
  v_moved integer := 0;
begin
  perform private.require_role(identify_customer.workspace_id, 'member');
  if identify_customer.customer_id is null or identify_customer.anonymous_id is null then
    perform private.fail('invalid_argument', 'Both ids are needed.', '{"argument": "customer_id"}');
  end if;
  for v_preference in
    delete from ai.customer_preferences p where p.workspace_id = identify_customer.workspace_id
      and p.anonymous_id = identify_customer.anonymous_id returning *
  loop
    perform private.note_preference(identify_customer.workspace_id, v_preference.category, v_preference.preference_key,
      v_preference.preference_value, identify_customer.customer_id, null, greatest(0.01,
      private.decayed(v_preference.confidence, v_preference.last_confirmed_at, private.now())), v_preference.source);
    v_moved := v_moved + 1;
  end loop;
  update ai.conversation_sessions s set customer_id = identify_customer.customer_id, anonymous_id = null
  where s.workspace_id = identify_customer.workspace_id and s.anonymous_id = identify_customer.anonymous_id;
  return v_moved;
end $$;
comment on function private.identify_customer(uuid, text, uuid) is 'Core of ai.identify_customer.';
revoke all on function private.identify_customer from public, anon, authenticated, service_role;
grant execute on function private.identify_customer to authenticated, service_role;

create function ai.identify_customer(workspace_id uuid, anonymous_id text, customer_id uuid) returns integer
language sql
set search_path = ''
as $$
  select private.identify_customer(identify_customer.workspace_id, identify_customer.anonymous_id,
    identify_customer.customer_id)
$$;
comment on function ai.identify_customer(uuid, text, uuid) is
  'Merges what is known of an anonymous visitor into a customer; returns how many preferences moved.';
revoke all on function ai.identify_customer from public, anon, authenticated, service_role;
grant execute on function ai.identify_customer to authenticated, service_role;

create function ai.forget_faded_preferences() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_forgotten integer;
begin
  delete from ai.customer_preferences p where p.id in (
    select k.id from ai.customer_preferences k where k.last_confirmed_at < private.now() - interval '90 days'
      and private.decayed(k.confidence, k.last_confirmed_at, private.now()) < 0.05
    order by k.last_confirmed_at limit 5000 for update skip locked);
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end $$;
comment on function ai.forget_faded_preferences() is 'Sweep: what is hardly sure of any more is forgotten.';
revoke all on function ai.forget_faded_preferences from public, anon, authenticated, service_role;
grant execute on function ai.forget_faded_preferences to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('forget faded preferences', 'ai.forget_faded_preferences', interval '6 hours');
