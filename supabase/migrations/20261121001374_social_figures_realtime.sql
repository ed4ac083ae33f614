-- A sale that came of a try-on is shown the moment it is known; figures are asked for instead.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table social.order_attributions;
  end if;
end $$;
