-- The clock of test databases: stands still at `at`, or runs `shift` away from the real time.
create table private.test_clock (
  at timestamptz,
  shift interval not null default '0'
);
insert into private.test_clock default values;
create unique index test_clock_has_one_row on private.test_clock ((true));
grant select on private.test_clock to public;

create or replace function private.now() returns timestamptz
language sql stable
set search_path = ''
as $$ select coalesce(test_clock.at, pg_catalog.now()) + test_clock.shift from private.test_clock $$;
