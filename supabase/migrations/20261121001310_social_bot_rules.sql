-- How the bot behaves on a post: what is built in, what the account says, what the post says, each before the one
-- before it. Trigger words are looked for as whole words, whatever their case and the signs between them. What every
-- event asks is PL/pgSQL, which keeps its plans.

insert into private.error_codes (name, sqlstate, hint) values
  ('invalid_bot_settings', 'PT422', 'Correct the setting that the details name; docs/reference/social.md has all.');

create function private.bot_messages() returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'private_reply', 'Hi {{username}}! Want to see {{garment}} on you? Answer this message and I will show you how.',
    'photo_request',
    'Great! Send me a photo of yourself, from the front and in good light, and I will put {{garment}} on you.',
    'processing', 'Thank you! Give me a minute, I am dressing you.',
    'result', 'Here you are, in {{garment}}. How do you like it?',
    'promo', 'Use the code {{promo_code}} when you order.',
    'bad_photo', 'I cannot work with this picture. Please send one as JPEG, PNG or WebP that shows you from the front.',
    'no_credits', 'I cannot make a try-on at the moment. Our team will get back to you.',
    'tryon_failed', 'That did not work, I am sorry. Please send me another photo.',
    'no_garment',
    'Write a comment under the post with the piece that you would like to try on, and we begin from there.',
    'limit_reached', 'That was enough for one day. Write again tomorrow!',
    'outside_hours', 'We are closed at the moment and will be back soon.',
    'opted_out', 'You will get no more automatic messages from us. Write START if you change your mind.',
    'opted_in', 'Good to have you back!');
end $$;
comment on function private.bot_messages() is 'What the bot says where the settings say nothing else, by name.';
revoke all on function private.bot_messages from public, anon, authenticated, service_role;
grant execute on function private.bot_messages to authenticated, service_role;

create function social.bot_message_defaults() returns table (name text, message_text text)
language sql immutable
set search_path = ''
as $$ select e.key, e.value from jsonb_each_text(private.bot_messages()) e order by e.key $$;
comment on function social.bot_message_defaults() is
  'What the bot says where the settings say nothing else; {{username}}, {{garment}}, {{promo_code}} are filled in, and '
  'in result {{link}}.';
revoke all on function social.bot_message_defaults from public, anon, authenticated, service_role;
grant execute on function social.bot_message_defaults to authenticated, service_role;

create type private.bot_rules as (
  account_id uuid, workspace_id uuid, post_id uuid, binding_id uuid, garment_id uuid, garment_name text, category text,
  tryon_enabled boolean, auto_reply_enabled boolean, notifications_enabled boolean, trigger_keywords text[],
  messages jsonb, promo_code text, daily_tryons_per_person integer, takeover_minutes integer,
  business_hours_enabled boolean, timezone text, business_hours jsonb
);
comment on type private.bot_rules is 'What holds for the bot on one post, or on no post, of an account.';

-- Words and numbers in lower case with one space between, and one on both sides.
create function private.keyword_text(text text) returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return ' ' || trim(regexp_replace(lower(normalize(text, nfkc)), '[^[:alnum:]]+', ' ', 'g')) || ' ';
end $$;
comment on function private.keyword_text(text) is 'The words of a text, for finding words in it.';
revoke all on function private.keyword_text from public, anon, authenticated, service_role;

-- A word of signs only, such as an emoji, is looked for as it is. The longest that is there.
create function private.matching_keyword(text text, keywords text[]) returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return (
    select k.keyword from unnest(keywords) as k (keyword)
    where case when private.keyword_text(k.keyword) ~ '[^ ]'
      then position(private.keyword_text(k.keyword) in private.keyword_text(matching_keyword.text)) > 0
      else position(trim(k.keyword) in matching_keyword.text) > 0 end
    order by length(k.keyword) desc, k.keyword limit 1
  );
end $$;
comment on function private.matching_keyword(text, text[]) is 'The trigger word that a text holds; null: none.';
revoke all on function private.matching_keyword from public, anon, authenticated, service_role;

create function private.bot_rules_of(account_id uuid, post_id uuid) returns private.bot_rules
language plpgsql stable
set search_path = ''
as $$
begin
  return (
    select row(s.account_id, s.workspace_id, p.id, b.id, b.garment_id, coalesce(b.garment_name, g.name, 'it'),
      b.category,
      s.tryon_enabled and coalesce((p.bot_config ->> 'tryon_enabled')::boolean, true),
      s.auto_reply_enabled and coalesce((p.bot_config ->> 'auto_reply_enabled')::boolean, true),
      s.notifications_enabled,
      coalesce(case when b.id is null or b.use_global_keywords then s.trigger_keywords end, '{}')
        || coalesce(b.trigger_keywords, '{}')
        || array(select jsonb_array_elements_text(coalesce(p.bot_config -> 'trigger_keywords', '[]'))),
      private.bot_messages() || s.messages || coalesce(p.bot_config -> 'messages', '{}'),
      coalesce(p.bot_config ->> 'promo_code', s.promo_code), s.daily_tryons_per_person, s.takeover_minutes,
      coalesce((p.bot_config ->> 'business_hours_enabled')::boolean, s.business_hours_enabled),
      coalesce(p.bot_config ->> 'timezone', s.timezone),
      coalesce(p.bot_config -> 'business_hours', s.business_hours))::private.bot_rules
    from social.bot_settings s
    left join social.posts p on p.id = bot_rules_of.post_id and p.connected_account_id = s.account_id
    left join social.post_garment_bindings b on b.post_id = p.id and b.is_active
    left join studio.wardrobe_garments g on g.id = b.garment_id
    where s.account_id = bot_rules_of.account_id
  );
end $$;
comment on function private.bot_rules_of(uuid, uuid) is 'What holds for the bot on a post, or with null, on no post.';
revoke all on function private.bot_rules_of from public, anon, authenticated, service_role;

-- From yesterday on, because hours may end after midnight. Null: closed for the next eight days.
create function private.next_opening(rules private.bot_rules, at timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  if not rules.business_hours_enabled then
    return at;
  end if;
  return (
    select min(greatest(h.opens_at, at))
    from generate_series(-1, 8) as d (n)
    cross join lateral (select (at at time zone rules.timezone)::date + d.n as day) l
    cross join lateral jsonb_array_elements(
      coalesce(rules.business_hours -> to_char(l.day, 'dy'), '[]')) as i (hours)
    cross join lateral (select
      (l.day + (i.hours ->> 0)::time) at time zone rules.timezone as opens_at,
      (l.day + (i.hours ->> 1)::time + case when (i.hours ->> 1)::time <= (i.hours ->> 0)::time
        then interval '1 day' else interval '0' end) at time zone rules.timezone as closes_at) h
    where h.closes_at > at);
end $$;
comment on function private.next_opening(private.bot_rules, timestamptz) is
  'When the account is open from a time on: that time itself where it is open then.';
revoke all on function private.next_opening from public, anon, authenticated, service_role;

-- settings: any of the settings that a post may have, as JSON. The first thing that is wrong is named.
create function private.check_bot_config(settings jsonb) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_key text;
  v_value jsonb;
  v_fault text;
begin
  for v_key, v_value in select e.key, e.value from jsonb_each(settings) e loop
    v_fault := case
      when v_key in ('tryon_enabled', 'auto_reply_enabled', 'business_hours_enabled') then
        case when jsonb_typeof(v_value) <> 'boolean' then 'is not true or false' end
      when v_key = 'promo_code' then
        case when jsonb_typeof(v_value) <> 'string' or length(v_value #>> '{}') not between 1 and 100
          then 'is not a text of 1 to 100 characters' end
      when v_key = 'timezone' then
        case when not exists (select from pg_catalog.pg_timezone_names z where z.name = v_value #>> '{}')
          then 'is not a timezone' end
      when v_key = 'trigger_keywords' then
        case when jsonb_typeof(v_value) <> 'array' or jsonb_array_length(v_value) > 50 or exists (
          select from jsonb_array_elements(v_value) w
          where jsonb_typeof(w) <> 'string' or length(trim(w #>> '{}')) not between 1 and 100)
          then 'is not a list of at most 50 words of 1 to 100 characters' end
      when v_key = 'messages' then
        case when jsonb_typeof(v_value) <> 'object' or exists (
          select from jsonb_each(v_value) m
          where not private.bot_messages() ? m.key or jsonb_typeof(m.value) <> 'string'
            or length(m.value #>> '{}') not between 1 and 1000)
          then 'is not an object of known messages of 1 to 1000 characters' end
      when v_key = 'business_hours' then
        case when jsonb_typeof(v_value) <> 'object' or exists (
          select from jsonb_each(v_value) d where d.key not in ('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun')
            or jsonb_typeof(d.value) <> 'array' or exists (
              select from jsonb_array_elements(d.value) h
              where coalesce(h ->> 0, '') !~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'
                or coalesce(h ->> 1, '') !~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$'))
          then 'is not of the form {"mon": [["09:00", "18:00"]]}' end
      else 'is no setting' end;
    if v_fault is not null then
      perform private.fail('invalid_bot_settings', format('%s %s.', v_key, v_fault),
        jsonb_build_object('setting', v_key));
    end if;
  end loop;
end $$;
comment on function private.check_bot_config(jsonb) is 'Refuses settings of the bot that are not what they have to be.';
revoke all on function private.check_bot_config from public, anon, authenticated, service_role;

create function private.check_bot_settings() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.check_bot_config(jsonb_strip_nulls(jsonb_build_object('trigger_keywords', new.trigger_keywords,
    'messages', new.messages, 'timezone', new.timezone, 'business_hours', new.business_hours)));
  return new;
end $$;
comment on function private.check_bot_settings() is 'Trigger: settings of the bot are what they have to be.';
revoke all on function private.check_bot_settings from public, anon, authenticated, service_role;
create trigger check_bot_settings before insert or update of trigger_keywords, messages, timezone, business_hours
  on social.bot_settings for each row execute function private.check_bot_settings();

grant update (tryon_enabled, auto_reply_enabled, notifications_enabled, trigger_keywords, messages, promo_code,
  daily_tryons_per_person, takeover_minutes, business_hours_enabled, timezone, business_hours)
  on table social.bot_settings to authenticated;
create policy "Editors set up the bot" on social.bot_settings
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create function private.check_post_setup() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.check_bot_config(new.bot_config);
  if new.shopify_product_id is not null and not exists (select from commerce.shopify_products p
    where p.id = new.shopify_product_id and p.workspace_id = new.workspace_id) then
    perform private.fail('invalid_bot_settings', 'There is no such product in this workspace.',
      '{"setting": "shopify_product_id"}');
  end if;
  if new.shopify_variant_id is not null and not exists (select from commerce.shopify_product_variants v
    where v.id = new.shopify_variant_id and v.workspace_id = new.workspace_id) then
    perform private.fail('invalid_bot_settings', 'There is no such variant in this workspace.',
      '{"setting": "shopify_variant_id"}');
  end if;
  return new;
end $$;
comment on function private.check_post_setup() is 'Trigger: a post''s bot settings and products are of its workspace.';
revoke all on function private.check_post_setup from public, anon, authenticated, service_role;
create trigger check_post_setup before update of bot_config, shopify_product_id, shopify_variant_id
  on social.posts for each row execute function private.check_post_setup();
grant update (bot_config, shopify_product_id, shopify_variant_id) on table social.posts to authenticated;
create policy "Editors set up posts" on social.posts
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

grant update (hourly_limit, daily_limit) on table social.send_limits to authenticated;
create policy "Admins lower the send limits" on social.send_limits
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
