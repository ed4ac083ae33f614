-- Rows that clients watch: the hosted platform's realtime server tells of their changes, each to those who may read
-- the row. Only what a screen waits for; a wallet changes with every charge and is asked for instead. The end of a row
-- is told to everybody, with its key: no table whose key says who belongs to whom.
-- Source: Supabase, Realtime, Postgres Changes: the publication supabase_realtime names the tables.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table studio.creations, messaging.notifications, commerce.shopify_syncs,
      commerce.product_import_batches, billing.subscriptions, billing.payments, integrations.connected_accounts;
  end if;
end $$;
