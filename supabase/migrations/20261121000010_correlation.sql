-- One id for all that comes of one cause. The root (a request, a webhook, a run of a schedule) begins it; jobs,
-- charges and ledger transactions take it over by the defaults of their columns, from a setting of the
-- transaction, so that nothing between has to pass it on. The defaults spell the setting out instead of calling a
-- function, because that costs the hot paths nothing. Clients cannot choose it: it is never read from a request.

-- Joins the correlation of the transaction; where there is none, begins with the given one or a new one.
create function private.correlate(correlation_id uuid default null) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_correlation text := nullif(pg_catalog.current_setting('backlot.correlation_id', true), '');
begin
  if v_correlation is null then
    v_correlation := coalesce(correlation_id, gen_random_uuid())::text;
    perform pg_catalog.set_config('backlot.correlation_id', v_correlation, true);
  end if;
  return v_correlation::uuid;
end $$;
comment on function private.correlate(uuid) is 'The correlation of this transaction; begins one where there is none.';
revoke all on function private.correlate from public, anon, authenticated, service_role;

-- From here to the end of the transaction everything belongs to this correlation; null: to none.
create function private.correlate_as(correlation_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_catalog.set_config('backlot.correlation_id', coalesce(correlation_id::text, ''), true);
end $$;
comment on function private.correlate_as(uuid) is 'Sets the correlation of this transaction.';
revoke all on function private.correlate_as from public, anon, authenticated, service_role;
