-- Rows that clients watch: the hosted platform's realtime server tells of their changes, each to those who may read
-- the row. Only what a screen waits for; a wallet changes with every charge and is asked for instead.
-- Source: Supabase, Realtime, Postgres Changes: the publication supabase_realtime names the tables.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table studio.creations, messaging.notifications, commerce.shopify_syncs,
      commerce.product_import_batches, billing.subscriptions, billing.payments;
  end if;
end $$;
