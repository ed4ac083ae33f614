-- A photo becomes a creation of the studio, charged to the account's workspace; the creation's end becomes messages.
-- The wallet is locked before the conversation, and the trigger on creations only enqueues a job, so that nobody who
-- holds a wallet waits for a conversation.

-- photo_path: where the worker stored it in studio-uploads. A request that is refused (no credits, garment gone)
-- ends the try-on with
-- words. Returns the try-on's status; of one that has been decided, what was decided.
create function social.accept_photo(tryon_id uuid, photo_path text) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_tryon social.tryons;
  v_binding social.post_garment_bindings;
  v_creation studio.creations;
  v_refusal text;
  v_state text;
begin
  select * into v_tryon from social.tryons t where t.id = tryon_id;
  select * into v_binding from social.post_garment_bindings b where b.id = v_tryon.binding_id;
  if v_tryon.status is distinct from 'photo' then
    return v_tryon.status;
  end if;
  begin
    v_creation := studio.request_creation(workspace_id => v_tryon.workspace_id, creation_type => 'tryon',
      garment_id => v_tryon.garment_id, input_path => photo_path,
      category => coalesce(v_binding.category, 'upper_body'), key => 'instagram:' || v_tryon.id);
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_refusal = message_text;
    -- errors with a name are answers; anything else is a fault of ours and tried again
    if v_state not like 'PT4%' then
      raise;
    end if;
  end;
  return private.settle_photo(v_tryon, photo_path, v_creation.id, v_refusal);
end $$;
comment on function social.accept_photo(uuid, text) is
  'Requests the try-on of a stored photo, or tells the person that it cannot be made.';
revoke all on function social.accept_photo from public, anon, authenticated, service_role;
grant execute on function social.accept_photo to service_role;

-- What people sent to the bot is for their own try-on. Members see it in the conversation and make nothing else of it.
create function private.guard_sent_photos() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not private.is_service() or split_part(new.garment_path, '/', 2) = 'instagram' or not exists (
    select from social.tryons t where new.key = 'instagram:' || t.id and t.status = 'photo'
      and t.workspace_id = new.workspace_id) then
    perform private.fail('unknown_image', 'Photos that people sent to the bot are for their own try-ons.',
      jsonb_build_object('path', new.model_storage_path));
  end if;
  return new;
end $$;
comment on function private.guard_sent_photos() is
  'Trigger: refuses creations of photos that people sent to the bot but for their own try-ons.';
revoke all on function private.guard_sent_photos from public, anon, authenticated, service_role;
create trigger creations_guard_sent_photos before insert on studio.creations
  for each row when (split_part(new.model_storage_path, '/', 2) = 'instagram'
    or split_part(new.garment_path, '/', 2) = 'instagram')
  execute function private.guard_sent_photos();
create policy "Only the service stores what people sent to the bot" on storage.objects as restrictive for insert
  to anon, authenticated with check (bucket_id <> 'studio-uploads' or split_part(name, '/', 2) <> 'instagram');
create policy "Nobody replaces what people sent to the bot" on storage.objects as restrictive for update
  to anon, authenticated using (bucket_id <> 'studio-uploads' or split_part(name, '/', 2) <> 'instagram')
  with check (bucket_id <> 'studio-uploads' or split_part(name, '/', 2) <> 'instagram');

create function private.settle_photo(tryon social.tryons, path text, creation_id uuid, refusal text) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_rules private.bot_rules;
  v_conversation social.conversations;
  v_mid text := (select m.platform_message_id from social.messages m where m.id = tryon.message_id);
  v_error text := split_part(refusal, ':', 1);
begin
  select * into v_conversation from social.conversations c where c.id = tryon.conversation_id for update;
  v_rules := private.bot_rules_of(v_conversation.connected_account_id, tryon.post_id);
  v_conversation.post_id := tryon.post_id;
  update social.messages m set media_path = path where m.id = tryon.message_id;
  perform private.record_step(v_conversation, 'photo_received', format('photo:%s:1', v_mid));
  if creation_id is not null then
    update social.tryons t set status = 'processing', photo_path = path, creation_id = settle_photo.creation_id
    where t.id = tryon.id;
    perform private.record_step(v_conversation, 'tryon_requested', format('tryon:%s:requested', creation_id),
      creation_id, jsonb_build_object('garment_id', tryon.garment_id));
    perform private.bot_says(v_conversation, v_rules, 'processing', 'processing:' || tryon.id);
    return 'processing';
  end if;
  update social.tryons t
  set status = 'refused', photo_path = path, error_code = v_error, error_message = refusal,
    completed_at = private.now()
  where t.id = tryon.id;
  update social.conversations c set stage = 'awaiting_photo' where c.id = v_conversation.id;
  perform private.record_step(v_conversation, 'tryon_refused', format('photo:%s:1:refused', v_mid), null,
    jsonb_build_object('error', v_error));
  perform private.bot_says(v_conversation, v_rules, case when v_error in ('unknown_garment', 'unknown_image',
    'unsupported_image_type') then 'tryon_failed' else 'no_credits' end, 'refused:' || tryon.id);
  perform private.tell_people(v_conversation, v_rules, 'The bot could not make a try-on',
    regexp_replace(refusal, '^[a-z_]+: ', ''), format('tryon-refused:%s:%s:%s', v_conversation.connected_account_id,
      v_error, private.now()::date));
  return 'refused';
end $$;
comment on function private.settle_photo is 'Ends the wait for a photo: the try-on is under way or refused.';
revoke all on function private.settle_photo from public, anon, authenticated, service_role;

-- reason: not_an_image, too_large, too_small, unreachable.
create function social.reject_photo(tryon_id uuid, reason text, detail text default null) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_tryon social.tryons;
  v_conversation social.conversations;
  v_rules private.bot_rules;
begin
  select * into v_tryon from social.tryons t where t.id = tryon_id;
  select * into v_conversation from social.conversations c where c.id = v_tryon.conversation_id for update;
  update social.tryons t
  set status = 'rejected', error_code = reason, error_message = detail, completed_at = private.now()
  where t.id = tryon_id and t.status = 'photo';
  if not found then
    return (select t.status from social.tryons t where t.id = tryon_id);
  end if;
  v_rules := private.bot_rules_of(v_conversation.connected_account_id, v_tryon.post_id);
  v_conversation.post_id := v_tryon.post_id;
  update social.conversations c set stage = 'awaiting_photo' where c.id = v_conversation.id;
  perform private.record_step(v_conversation, 'photo_rejected', format('photo:%s:1:rejected',
    (select m.platform_message_id from social.messages m where m.id = v_tryon.message_id)), null,
    jsonb_build_object('reason', reason));
  perform private.bot_says(v_conversation, v_rules, 'bad_photo', 'rejected:' || v_tryon.id);
  return 'rejected';
end $$;
comment on function social.reject_photo(uuid, text, text) is 'Tells the person that a photo cannot be used.';
revoke all on function social.reject_photo from public, anon, authenticated, service_role;
grant execute on function social.reject_photo to service_role;

-- on_event of social.photo: a photo that could not be fetched for good is a bad one. By a job of its own, because many
-- jobs end in one transaction and a conversation is locked for no two of them.
create function social.on_photo_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if event in ('dead', 'cancelled') then
    perform ops.enqueue_job('social.end_tryon', job.payload || jsonb_build_object('rejected',
      split_part(coalesce(job.error, 'cancelled'), ':', 1)), job.workspace_id, priority => 5,
      key => 'photo-end:' || job.id);
  end if;
end $$;
comment on function social.on_photo_job(ops.jobs, text) is 'A photo that cannot be fetched is told to the person.';
revoke all on function social.on_photo_job from public, anon, authenticated, service_role;
update ops.job_kinds k set on_event = 'social.on_photo_job' where k.kind = 'social.photo';

create function private.note_tryon_end() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform ops.enqueue_job('social.end_tryon', jsonb_build_object('tryon_id', t.id), t.workspace_id, priority => 5,
    key => format('tryon-end:%s:%s:%s', t.id, new.usage_event_id, new.status))
  from social.tryons t where t.creation_id = new.id;
  return null;
end $$;
comment on function private.note_tryon_end() is 'Trigger: the end of a creation that the bot asked for is told on.';
revoke all on function private.note_tryon_end from public, anon, authenticated, service_role;
create trigger note_tryon_end after update of status on studio.creations for each row
  when (new.status in ('completed', 'failed', 'cancelled') and new.status is distinct from old.status)
  execute function private.note_tryon_end();

create function private.send_result(conversation social.conversations, rules private.bot_rules,
  creation studio.creations) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_draft social.messages;
begin
  v_draft.source := 'bot';
  v_draft.purpose := 'result_picture';
  v_draft.message_type := 'image';
  v_draft.media_path := creation.result_paths[1];
  v_draft.creation_id := creation.id;
  v_draft.key := 'result:' || creation.id;
  perform private.queue_message(conversation, v_draft);
  perform private.bot_says(conversation, rules, 'result', 'result_text:' || creation.id,
    private.link_to_product(creation.id, conversation.post_id));
  if rules.promo_code is not null then
    perform private.bot_says(conversation, rules, 'promo', 'promo:' || creation.id);
  end if;
end $$;
comment on function private.send_result is
  'The picture, what the bot says to it with a link to the product, and the promo code where there is one.';
revoke all on function private.send_result from public, anon, authenticated, service_role;

-- As the creation stands now: one that was replayed may complete after it had failed.
create function social.end_tryon(tryon_id uuid) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_tryon social.tryons;
  v_creation studio.creations;
  v_conversation social.conversations;
  v_rules private.bot_rules;
begin
  select * into v_tryon from social.tryons t where t.id = tryon_id;
  select * into v_creation from studio.creations c where c.id = v_tryon.creation_id;
  select * into v_conversation from social.conversations c where c.id = v_tryon.conversation_id for update;
  select * into v_tryon from social.tryons t where t.id = tryon_id for update;
  if v_tryon.status = 'completed' or v_creation.completed_at is null then
    return coalesce(v_tryon.status, 'gone');
  end if;
  v_rules := private.bot_rules_of(v_conversation.connected_account_id, v_tryon.post_id);
  v_conversation.post_id := v_tryon.post_id;
  if v_creation.status = 'completed' then
    update social.tryons t
    set status = 'completed', error_code = null, error_message = null, completed_at = v_creation.completed_at
    where t.id = v_tryon.id;
    update social.conversations c set stage = 'completed' where c.id = v_conversation.id and c.stage = 'processing';
    perform private.record_step(v_conversation, 'tryon_completed', format('tryon:%s:completed', v_creation.id),
      v_creation.id, jsonb_build_object('cost_micro', v_creation.cost_micro, 'generation_time_ms',
        round(extract(epoch from v_creation.completed_at - v_creation.created_at) * 1000)));
    perform private.send_result(v_conversation, v_rules, v_creation);
    return 'completed';
  end if;
  if v_tryon.status <> 'processing' then
    return v_tryon.status;
  end if;
  update social.tryons t
  set status = 'failed', error_code = coalesce(v_creation.error_code, v_creation.status),
    error_message = v_creation.error_message, completed_at = v_creation.completed_at
  where t.id = v_tryon.id;
  update social.conversations c set stage = 'awaiting_photo' where c.id = v_conversation.id;
  perform private.record_step(v_conversation, 'tryon_failed', format('tryon:%s:failed', v_creation.id), v_creation.id,
    jsonb_build_object('error', coalesce(v_creation.error_code, v_creation.status)));
  perform private.bot_says(v_conversation, v_rules, 'tryon_failed', 'failed:' || v_tryon.id);
  return 'failed';
end $$;
comment on function social.end_tryon(uuid) is 'Brings the end of a creation into its conversation, once.';
revoke all on function social.end_tryon from public, anon, authenticated, service_role;
grant execute on function social.end_tryon to service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('social.end_tryon', 'Brings the result of a try-on into its conversation.', interval '1 day');
