-- The end of disconnected accounts' 90 days, run by the clock of ops.
insert into ops.sweeps (name, function_name, every) values
  ('purge disconnected accounts', 'private.purge_disconnected_accounts', interval '1 hour');
