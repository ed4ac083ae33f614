-- Which orders came of try-ons. A paid order goes to one try-on at most, by the first of: a promo code that the bot
-- sent; the link or cart attribute that names the try-on; a product that the buyer, known by handle, had tried on.
-- Only try-ons of the days before the order count. A refund of all of it takes the order back.

create table social.attribution_settings (
  workspace_id uuid primary key,
  window_days integer not null default 30,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint attribution_settings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint attribution_settings_window_in_range check (window_days between 1 and 365)
);
comment on table social.attribution_settings is
  'For how many days after a try-on an order counts as come of it; 30 where a workspace has set nothing.';
create trigger touch_attribution_settings before update on social.attribution_settings
  for each row execute function private.touch_updated_at();
alter table social.attribution_settings enable row level security;
revoke all on table social.attribution_settings from public, anon, authenticated, service_role;
grant select, delete, insert (workspace_id, window_days), update (window_days)
  on table social.attribution_settings to authenticated;
grant select, insert, update, delete on table social.attribution_settings to service_role;
create policy "Members see how their workspaces attribute orders" on social.attribution_settings
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors set how orders are attributed" on social.attribution_settings
  for insert to authenticated with check (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors change how orders are attributed" on social.attribution_settings
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]))
  with check (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors go back to the default of attribution" on social.attribution_settings
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

-- The order is the key: it cannot be attributed twice. post_id and creation_id are as in social.bot_interactions.
create table social.order_attributions (
  order_id uuid primary key,
  workspace_id uuid not null,
  account_id uuid not null,
  method text not null,
  interaction_id bigint not null,
  post_id uuid,
  conversation_id uuid,
  creation_id uuid,
  product_id uuid,
  taken_back_at timestamptz,
  created_at timestamptz not null default now(),
  constraint order_attributions_order_id_fkey foreign key (order_id) references commerce.orders (id) on delete cascade,
  constraint order_attributions_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint order_attributions_account_id_fkey foreign key (account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint order_attributions_product_id_fkey foreign key (product_id)
    references commerce.shopify_products (id) on delete set null,
  constraint order_attributions_method_known check (method in ('promo_code', 'link', 'product'))
);
comment on table social.order_attributions is 'Which try-on a paid order came of, and how that is known.';
comment on column social.order_attributions.interaction_id is 'The step of the funnel that the order was traced to.';
comment on column social.order_attributions.product_id is 'The product that was tried on, where known.';
comment on column social.order_attributions.taken_back_at is 'When all of the order had been refunded.';
create index order_attributions_workspace_id on social.order_attributions (workspace_id, created_at desc);
create index order_attributions_account_id on social.order_attributions (account_id, post_id);
create index order_attributions_product_id on social.order_attributions (product_id) where product_id is not null;
alter table social.order_attributions enable row level security;
revoke all on table social.order_attributions from public, anon, authenticated, service_role;
grant select on table social.order_attributions to authenticated, service_role;
create policy "Members see what came of their workspaces' try-ons" on social.order_attributions
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create index bot_interactions_promo_code
  on social.bot_interactions (workspace_id, upper(details ->> 'promo_code'), occurred_at desc)
  where kind = 'promo_sent';
create index bot_interactions_tryons on social.bot_interactions (workspace_id, occurred_at desc)
  where kind = 'tryon_completed';

-- The link that leads a buyer from a try-on to the shop, such that the order can be traced back.
create function social.tracked_link(url text, creation_id uuid) returns text
language sql immutable
set search_path = ''
as $$
  select split_part(url, '#', 1) || case when position('?' in url) > 0 then '&' else '?' end
    || 'utm_source=instagram&utm_medium=dm&utm_campaign=tryon&utm_content=' || creation_id
    || coalesce('#' || nullif(split_part(url, '#', 2), ''), '')
$$;
comment on function social.tracked_link(text, uuid) is 'An address of the shop that names the try-on it was sent with.';
revoke all on function social.tracked_link from public, anon, authenticated, service_role;
grant execute on function social.tracked_link to authenticated, service_role;

create function private.product_tried(creation_id uuid, post_id uuid) returns uuid
language sql stable
set search_path = ''
as $$
  select coalesce((
    select p.id from studio.creations c
    join studio.wardrobe_garments g on g.id = c.garment_id
    join commerce.shopify_products p on p.id = g.shopify_product_id
    where c.id = product_tried.creation_id
  ), (select p.shopify_product_id from social.posts p where p.id = product_tried.post_id))
$$;
comment on function private.product_tried(uuid, uuid) is
  'The product whose garment a creation shows, else that of the post; null when none is known.';
revoke all on function private.product_tried from public, anon, authenticated, service_role;

-- The link of the bot's result. Only what people can buy has one.
create function private.link_to_product(creation_id uuid, post_id uuid) returns text
language sql stable
set search_path = ''
as $$
  select social.tracked_link(p.shopify_store_url || coalesce('?variant=' || v.shopify_variant_id, ''),
    link_to_product.creation_id)
  from commerce.shopify_products p
  left join social.posts o on o.id = link_to_product.post_id and o.shopify_product_id = p.id
  left join commerce.shopify_product_variants v on v.id = o.shopify_variant_id and v.product_id = p.id
  where p.id = private.product_tried(link_to_product.creation_id, link_to_product.post_id)
    and p.status = 'active' and p.published_at <= private.now() and p.deleted_at is null
$$;
comment on function private.link_to_product(uuid, uuid) is
  'Where what was tried on is sold, with the try-on''s name in the address; null: it is not sold.';
revoke all on function private.link_to_product from public, anon, authenticated, service_role;

-- The step that an order is traced to, with how. A shop's times are whole seconds of another clock: a minute more is
-- allowed. A code that many were sent goes to whoever tried on what was bought, then to whom it was sent last.
create function private.trace_order(traced commerce.orders)
returns table (method text, interaction social.bot_interactions)
language plpgsql stable
set search_path = ''
as $$
declare
  v_from timestamptz := traced.ordered_at - make_interval(days => coalesce((select s.window_days
    from social.attribution_settings s where s.workspace_id = traced.workspace_id), 30));
  v_to timestamptz := traced.ordered_at + interval '1 minute';
  v_tryon uuid := private.try_uuid(coalesce(traced.campaign ->> 'tryon', traced.campaign ->> 'utm_content'));
  v_products uuid[] := array(select i.product_id from commerce.order_items i
    where i.order_id = traced.id and i.product_id is not null);
begin
  return query select 'promo_code', i from social.bot_interactions i
  where i.workspace_id = traced.workspace_id and i.kind = 'promo_sent'
    and upper(i.details ->> 'promo_code') = any (traced.discount_codes)
    and i.occurred_at between v_from and v_to
  order by private.product_tried(i.creation_id, i.post_id) = any (v_products) desc nulls last, i.occurred_at desc
  limit 1;
  if found then
    return;
  end if;
  return query select 'link', i from social.bot_interactions i
  where i.workspace_id = traced.workspace_id and i.creation_id = v_tryon
    and i.occurred_at between v_from and v_to and i.kind in ('tryon_completed', 'result_sent')
  order by i.occurred_at limit 1;
  if found or traced.handle_ref is null then
    return;
  end if;
  return query select 'product', i from social.bot_interactions i
  where i.workspace_id = traced.workspace_id and i.kind = 'tryon_completed'
    and i.occurred_at between v_from and v_to
    and private.person_ref(traced.connected_account_id, i.details ->> 'username') = traced.handle_ref
    and private.product_tried(i.creation_id, i.post_id) = any (v_products)
  order by i.occurred_at desc limit 1;
end $$;
comment on function private.trace_order(commerce.orders) is 'The step of the funnel that an order came of, if any.';
revoke all on function private.trace_order from public, anon, authenticated, service_role;

-- What an order means for its try-on now: attributed once it is paid, taken back once all of it is refunded.
create function private.attribute_order(told commerce.orders) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_trace record;
  v_step social.bot_interactions;
begin
  if told.paid_at is null or told.is_test then
    return;
  end if;
  select t.method, t.interaction into v_trace from private.trace_order(told) t
  where not exists (select from social.order_attributions a where a.order_id = told.id);
  if found then
    v_step := v_trace.interaction;
    insert into social.order_attributions (order_id, workspace_id, account_id, method, interaction_id, post_id,
      conversation_id, creation_id, product_id)
    values (told.id, told.workspace_id, v_step.account_id, v_trace.method, v_step.id, v_step.post_id,
      v_step.conversation_id, v_step.creation_id, private.product_tried(v_step.creation_id, v_step.post_id));
    perform social.record_interaction(told.workspace_id, v_step.account_id, 'order_attributed', 'order:' || told.id,
      v_step.post_id, v_step.conversation_id, v_step.creation_id, jsonb_build_object('order_id', told.id, 'method',
        v_trace.method, 'total_cents', told.total_cents, 'currency', told.currency));
  end if;
  if told.refunded_cents < told.total_cents or told.refunded_cents = 0 then
    return;
  end if;
  update social.order_attributions a set taken_back_at = private.now()
  where a.order_id = told.id and a.taken_back_at is null;
  if found then
    perform social.record_interaction(a.workspace_id, a.account_id, 'order_refunded', 'order:' || told.id
      || ':refunded', a.post_id, a.conversation_id, a.creation_id, jsonb_build_object('order_id', told.id,
        'total_cents', told.total_cents, 'currency', told.currency))
    from social.order_attributions a where a.order_id = told.id;
  end if;
end $$;
comment on function private.attribute_order(commerce.orders) is
  'Attributes a paid order to the try-on it came of, and takes a refunded one back.';
revoke all on function private.attribute_order from public, anon, authenticated, service_role;

create function private.apply_order_event(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_is_refund boolean := event.event_type = 'refunds/create';
  v_order_id text := event.payload ->> case when v_is_refund then 'order_id' else 'id' end;
  v_news boolean := false;
  v_refund jsonb;
begin
  -- what is told of one order is taken in one after the other
  perform pg_advisory_xact_lock(hashtextextended('order:' || account.id || ':' || v_order_id, 0));
  if not v_is_refund then
    v_news := private.keep_order(account, event.payload, private.told_at(event));
  end if;
  for v_refund in
    select * from jsonb_array_elements(case when v_is_refund then jsonb_build_array(event.payload)
      when jsonb_typeof(event.payload -> 'refunds') = 'array' then event.payload -> 'refunds' else '[]' end)
  loop
    v_news := private.keep_refund(account, v_order_id, v_refund) or v_news;
  end loop;
  if v_news then
    perform private.attribute_order(o) from private.total_refunds(account.id, v_order_id) o where o.id is not null;
  end if;
  return case when v_news then 'applied' else 'stale' end;
end $$;
comment on function private.apply_order_event(ops.webhook_events, integrations.connected_accounts) is
  'orders/create, paid and cancelled, refunds/create: the order is kept, and attributed to the try-on it came of.';
revoke all on function private.apply_order_event from public, anon, authenticated, service_role;
insert into commerce.shopify_event_handlers (topic, function_name, needs_shop) values
  ('orders/create', 'private.apply_order_event', true),
  ('orders/paid', 'private.apply_order_event', true),
  ('orders/cancelled', 'private.apply_order_event', true),
  ('refunds/create', 'private.apply_order_event', true);
