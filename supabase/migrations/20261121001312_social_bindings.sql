-- Members' calls that set up posts: the garment behind a post, and what the bot would say to a comment.

create function private.post_of_caller(post_id uuid) returns social.posts
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_post social.posts;
begin
  select * into v_post from social.posts p where p.id = post_of_caller.post_id
    and (private.is_service() or private.has_role(p.workspace_id, 'viewer'));
  if v_post.id is null then
    perform private.fail('unknown_post', 'There is no such post among those of your workspaces.',
      jsonb_build_object('post_id', post_of_caller.post_id));
  end if;
  return v_post;
end $$;
comment on function private.post_of_caller(uuid) is 'A post that the caller may see.';
revoke all on function private.post_of_caller from public, anon, authenticated, service_role;
grant execute on function private.post_of_caller to authenticated, service_role;

create function private.bind_garment(post_id uuid, garment_id uuid, trigger_keywords text[],
  use_global_keywords boolean, category text, garment_name text, garment_description text, is_active boolean)
returns social.post_garment_bindings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_post social.posts := private.post_of_caller(post_id);
  v_garment studio.wardrobe_garments;
  v_binding social.post_garment_bindings;
begin
  perform private.require_role(v_post.workspace_id, 'editor');
  perform private.check_bot_config(jsonb_build_object('trigger_keywords', trigger_keywords));
  select * into v_garment from studio.wardrobe_garments g
  where g.id = garment_id and g.workspace_id = v_post.workspace_id;
  if v_garment.id is null then
    perform private.fail('unknown_garment', 'There is no such garment in this workspace.',
      jsonb_build_object('garment_id', garment_id));
  end if;
  insert into social.post_garment_bindings as b (workspace_id, connected_account_id, post_id, garment_id, created_by,
    garment_name, garment_description, garment_metadata, category, is_active, trigger_keywords, use_global_keywords)
  values (v_post.workspace_id, v_post.connected_account_id, v_post.id, v_garment.id, auth.uid(),
    coalesce(garment_name, v_garment.name), coalesce(garment_description, v_garment.description),
    coalesce(v_garment.leffa_metadata, '{}'),
    coalesce(category, v_garment.leffa_metadata ->> 'leffa_category', 'upper_body'),
    coalesce(is_active, true), trigger_keywords, coalesce(use_global_keywords, true))
  on conflict on constraint post_garment_bindings_once do update
  set garment_id = excluded.garment_id, garment_name = excluded.garment_name,
    garment_description = excluded.garment_description, garment_metadata = excluded.garment_metadata,
    category = excluded.category, is_active = excluded.is_active, trigger_keywords = excluded.trigger_keywords,
    use_global_keywords = excluded.use_global_keywords
  returning b.* into v_binding;
  return v_binding;
end $$;
comment on function private.bind_garment is 'Core of social.bind_garment; checks the caller first.';
revoke all on function private.bind_garment from public, anon, authenticated, service_role;
grant execute on function private.bind_garment to authenticated, service_role;

-- A post has one garment: binding another one replaces it. Errors: unknown_post, role_too_low, unknown_garment,
-- invalid_bot_settings.
create function social.bind_garment(post_id uuid, garment_id uuid, trigger_keywords text[] default '{}',
  use_global_keywords boolean default true, category text default null, garment_name text default null,
  garment_description text default null, is_active boolean default true) returns social.post_garment_bindings
language sql
set search_path = ''
as $$
  select private.bind_garment(bind_garment.post_id, bind_garment.garment_id, bind_garment.trigger_keywords,
    bind_garment.use_global_keywords, bind_garment.category, bind_garment.garment_name,
    bind_garment.garment_description, bind_garment.is_active)
$$;
comment on function social.bind_garment is 'An editor says which garment people can try on who comment on a post.';
revoke all on function social.bind_garment from public, anon, authenticated, service_role;
grant execute on function social.bind_garment to authenticated, service_role;

create function private.unbind_garment(post_id uuid) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_post social.posts := private.post_of_caller(post_id);
begin
  perform private.require_role(v_post.workspace_id, 'editor');
  delete from social.post_garment_bindings b where b.post_id = v_post.id;
  return found;
end $$;
comment on function private.unbind_garment(uuid) is 'Core of social.unbind_garment; checks the caller first.';
revoke all on function private.unbind_garment from public, anon, authenticated, service_role;
grant execute on function private.unbind_garment to authenticated, service_role;

create function social.unbind_garment(post_id uuid) returns boolean
language sql
set search_path = ''
as $$ select private.unbind_garment(unbind_garment.post_id) $$;
comment on function social.unbind_garment(uuid) is
  'An editor takes the garment off a post; it stays in the wardrobe. Returns whether there was one.';
revoke all on function social.unbind_garment from public, anon, authenticated, service_role;
grant execute on function social.unbind_garment to authenticated, service_role;

-- Instagram takes 1,000 bytes. A character is never cut in two.
create function private.cut_to_bytes(text text, most integer) returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  while octet_length(convert_to(text, 'UTF8')) > most loop
    text := left(text, -greatest(1, (octet_length(convert_to(text, 'UTF8')) - most) / 4));
  end loop;
  return text;
end $$;
comment on function private.cut_to_bytes(text, integer) is
  'The beginning of a text that has at most so many bytes in UTF-8.';
revoke all on function private.cut_to_bytes from public, anon, authenticated, service_role;

-- A link stands where the message has {{link}}, else after it, and is never cut.
create function private.fill_message(rules private.bot_rules, name text, username text, link text default null)
returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  v_text text := replace(replace(replace(rules.messages ->> name, '{{username}}', coalesce(username, 'there')),
    '{{garment}}', coalesce(rules.garment_name, 'it')), '{{promo_code}}', coalesce(rules.promo_code, ''));
  v_filled text := replace(v_text, '{{link}}', coalesce(link, ''));
begin
  if link is null or (position(link in v_filled) > 0 and octet_length(convert_to(v_filled, 'UTF8')) <= 1000) then
    return private.cut_to_bytes(v_filled, 1000);
  end if;
  v_text := replace(v_text, '{{link}}', '');
  return concat_ws(' ', private.cut_to_bytes(v_text, 999 - octet_length(convert_to(link, 'UTF8'))), link);
end $$;
comment on function private.fill_message(private.bot_rules, text, text, text) is
  'A message of the bot with what belongs in it.';
revoke all on function private.fill_message from public, anon, authenticated, service_role;

create function private.test_keyword(post_id uuid, comment_text text)
returns table (trigger_word text, answers boolean, reason text, reply_text text, reply_at timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_post social.posts := private.post_of_caller(post_id);
  v_rules private.bot_rules := private.bot_rules_of(v_post.connected_account_id, v_post.id);
begin
  perform private.require_role(v_post.workspace_id, 'viewer');
  trigger_word := private.matching_keyword(comment_text, v_rules.trigger_keywords);
  reply_at := private.next_opening(v_rules, private.now());
  reason := case when v_rules.binding_id is null then 'no_garment'
    when not v_rules.tryon_enabled or not v_rules.auto_reply_enabled then 'bot_disabled'
    when trigger_word is null then 'no_keyword'
    when reply_at is null or reply_at > private.now() + interval '7 days' then 'closed_too_long' end;
  answers := reason is null;
  reply_text := case when answers then private.fill_message(v_rules, 'private_reply', null) end;
  reply_at := case when answers then reply_at end;
  return next;
end $$;
comment on function private.test_keyword(uuid, text) is 'Core of social.test_keyword; checks the caller first.';
revoke all on function private.test_keyword from public, anon, authenticated, service_role;
grant execute on function private.test_keyword to authenticated, service_role;

create function social.test_keyword(post_id uuid, comment_text text)
returns table (trigger_word text, answers boolean, reason text, reply_text text, reply_at timestamptz)
language sql stable
set search_path = ''
as $$ select * from private.test_keyword(test_keyword.post_id, test_keyword.comment_text) $$;
comment on function social.test_keyword(uuid, text) is
  'What the bot would do with a comment under a post, and why not: no_garment, bot_disabled, no_keyword ...';
revoke all on function social.test_keyword from public, anon, authenticated, service_role;
grant execute on function social.test_keyword to authenticated, service_role;
