-- Instagram posts of connected accounts, the garment that stands behind a post, and comments. The bot answers comments
-- under posts that have a garment (see 1310 and later); other platforms would fill the same tables.

create schema if not exists social;
comment on schema social is 'Posts, conversations and the bot of connected social accounts.';
revoke all on schema social from public;
grant usage on schema social to anon, authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_post', 'PT404', 'Use the id of a post of one of your workspaces.'),
  ('account_not_connected', 'PT409', 'Connect the account again.');

-- Whoever refers to an account says its workspace with it: what is of one workspace can never name another's account.
alter table integrations.connected_accounts
  add constraint connected_accounts_in_workspace unique (workspace_id, id);

create table social.posts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  platform text not null default 'instagram',
  platform_post_id text not null,
  platform_url text,
  caption text,
  media_type text,
  media_urls jsonb not null default '[]',
  thumbnail_url text,
  like_count integer not null default 0,
  comment_count integer not null default 0,
  view_count integer not null default 0,
  posted_at timestamptz not null,
  last_synced_at timestamptz not null default private.now(),
  deleted_at timestamptz,
  shopify_product_id uuid,
  shopify_variant_id uuid,
  bot_config jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint posts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint posts_connected_account_fkey foreign key (workspace_id, connected_account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint posts_shopify_product_id_fkey foreign key (shopify_product_id)
    references commerce.shopify_products (id) on delete set null,
  constraint posts_shopify_variant_id_fkey foreign key (shopify_variant_id)
    references commerce.shopify_product_variants (id) on delete set null,
  constraint posts_in_workspace unique (workspace_id, id),
  constraint posts_once unique (connected_account_id, platform_post_id),
  constraint posts_platform_shape check (platform ~ '^[a-z][a-z0-9_]{1,39}$'),
  constraint posts_platform_post_id_length check (length(platform_post_id) between 1 and 255),
  constraint posts_media_type_known check (media_type in ('image', 'video', 'carousel_album', 'reels', 'story')),
  constraint posts_counts_not_negative check (like_count >= 0 and comment_count >= 0 and view_count >= 0),
  constraint posts_media_urls_are_list check (jsonb_typeof(media_urls) = 'array'),
  constraint posts_bot_config_is_object check (jsonb_typeof(bot_config) = 'object')
);
comment on table social.posts is 'A post of a connected account, as its platform showed it last.';
comment on column social.posts.platform_post_id is 'The platform''s id, such as Instagram''s media id.';
comment on column social.posts.media_urls is
  'Addresses at the platform: they end after some days and are read anew by syncs.';
comment on column social.posts.deleted_at is 'When a whole sync no longer found the post.';
comment on column social.posts.bot_config is
  'What differs from the account''s bot settings for this post: tryon_enabled, trigger_keywords, messages, promo_code.';
create index posts_workspace_id on social.posts (workspace_id, posted_at desc, id desc);
create index posts_account on social.posts (connected_account_id, posted_at desc, id desc);
create index posts_last_synced on social.posts (connected_account_id, last_synced_at);
create index posts_connected_account on social.posts (workspace_id, connected_account_id);
create index posts_shopify_product_id on social.posts (shopify_product_id);
create index posts_shopify_variant_id on social.posts (shopify_variant_id);
create trigger touch_posts before update on social.posts for each row execute function private.touch_updated_at();
alter table social.posts enable row level security;
revoke all on table social.posts from public, anon, authenticated, service_role;
grant select on table social.posts to authenticated;
grant select, insert, update, delete on table social.posts to service_role;
create policy "Members see the posts of their workspaces" on social.posts
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.post_garment_bindings (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  post_id uuid not null,
  garment_id uuid not null,
  created_by uuid,
  garment_name text,
  garment_description text,
  garment_metadata jsonb not null default '{}',
  category text not null default 'upper_body',
  is_active boolean not null default true,
  trigger_keywords text[] not null default '{}',
  use_global_keywords boolean not null default true,
  last_used_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint post_garment_bindings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint post_garment_bindings_account_fkey foreign key (workspace_id, connected_account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint post_garment_bindings_post_fkey foreign key (workspace_id, post_id)
    references social.posts (workspace_id, id) on delete cascade,
  constraint post_garment_bindings_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete cascade,
  constraint post_garment_bindings_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint post_garment_bindings_once unique (post_id),
  constraint post_garment_bindings_category_known check (category in ('upper_body', 'lower_body', 'dresses')),
  constraint post_garment_bindings_keywords_few check (cardinality(trigger_keywords) <= 50),
  constraint post_garment_bindings_lengths check (length(garment_name) <= 200 and length(garment_description) <= 5000),
  constraint post_garment_bindings_metadata_is_object check (jsonb_typeof(garment_metadata) = 'object')
);
comment on table social.post_garment_bindings is
  'The garment of the wardrobe that people who comment on a post can try on, and the words that begin it.';
comment on column social.post_garment_bindings.use_global_keywords is
  'The account''s trigger words begin a try-on too, beside this post''s own.';
create index post_garment_bindings_workspace_id
  on social.post_garment_bindings (workspace_id, created_at desc, id desc);
create index post_garment_bindings_account on social.post_garment_bindings (workspace_id, connected_account_id);
create index post_garment_bindings_post on social.post_garment_bindings (workspace_id, post_id);
create index post_garment_bindings_garment_id on social.post_garment_bindings (garment_id);
create index post_garment_bindings_created_by on social.post_garment_bindings (created_by);
create trigger touch_post_garment_bindings before update on social.post_garment_bindings
  for each row execute function private.touch_updated_at();
alter table social.post_garment_bindings enable row level security;
revoke all on table social.post_garment_bindings from public, anon, authenticated, service_role;
grant select on table social.post_garment_bindings to authenticated;
grant select, insert, update, delete on table social.post_garment_bindings to service_role;
create policy "Members see the garment bindings of their workspaces" on social.post_garment_bindings
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
