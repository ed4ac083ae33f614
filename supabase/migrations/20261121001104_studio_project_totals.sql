-- Totals of projects: at every moment the number and cost of the completed creations that are in them, whoever writes
-- a creation, moves it to another project or deletes it.

create function private.total_projects() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform from studio.projects p where p.id in (old.project_id, new.project_id) order by p.id for no key update;
  update studio.projects p
  set total_creations = p.total_creations + d.creations, total_cost_micro = p.total_cost_micro + d.cost_micro
  from (
    select s.project_id, sum(s.creations) as creations, sum(s.cost_micro) as cost_micro
    from (values
      (old.project_id, case when old.status = 'completed' then -1 else 0 end,
        case when old.status = 'completed' then -old.cost_micro else 0 end),
      (new.project_id, case when new.status = 'completed' then 1 else 0 end,
        case when new.status = 'completed' then new.cost_micro else 0 end)
    ) s (project_id, creations, cost_micro)
    group by s.project_id
  ) d
  where p.id = d.project_id and (d.creations <> 0 or d.cost_micro <> 0);
  return null;
end $$;
comment on function private.total_projects() is 'Trigger: projects count their completed creations and what they cost.';
revoke all on function private.total_projects from public, anon, authenticated, service_role;
create trigger creations_total_updated after update of status, project_id, cost_micro on studio.creations
  for each row when ((old.status, old.project_id, old.cost_micro) is distinct from
    (new.status, new.project_id, new.cost_micro) and (old.status = 'completed' or new.status = 'completed'))
  execute function private.total_projects();
create trigger creations_total_deleted after delete on studio.creations
  for each row when (old.status = 'completed' and old.project_id is not null)
  execute function private.total_projects();
create trigger creations_total_inserted after insert on studio.creations
  for each row when (new.status = 'completed' and new.project_id is not null)
  execute function private.total_projects();
