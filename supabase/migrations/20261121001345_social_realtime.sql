-- What an inbox and its settings wait for.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table social.conversations, social.messages, social.tryons,
      social.account_sync;
  end if;
end $$;
