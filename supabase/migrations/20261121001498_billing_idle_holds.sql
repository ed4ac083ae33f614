-- Holds that nothing will ever settle, for the nightly proof. Each flow that holds credits has a line here; its keys
-- begin with a word of its own.

create view billing.idle_holds with (security_invoker = true) as
select e.id as usage_event_id, e.workspace_id, e.key, e.amount_micro, e.created_at,
  case when w.is_open is null then 'its work is gone'
    when not w.is_open then 'its work has ended'
    else 'its job has ended' end as cause
from billing.usage_events e
left join lateral (
  select o.is_open, o.job_id from (
    select c.completed_at is null as is_open, c.job_id from studio.creations c where c.usage_event_id = e.id
    union all
    select a.completed_at is null, a.job_id from studio.garment_analyses a where a.usage_event_id = e.id
    union all
    select t.completed_at is null, t.job_id from studio.lora_trainings t where t.usage_event_id = e.id
    union all
    select k.completed_at is null, k.job_id from commerce.catalog_job_chunks k where k.usage_event_id = e.id
    union all
    select b.completed_at is null, b.job_id from ai.embedding_batches b where b.usage_event_id = e.id
    union all
    select i.analysis_status = 'pending', i.job_id from ai.brand_intelligence i where i.usage_event_id = e.id
    union all
    -- the assistant answers without a job; a sweep closes turns that it has left
    select u.completed_at is null, null from ai.conversation_turns u where u.usage_event_id = e.id
  ) o order by o.is_open desc limit 1
) w on true
where e.status = 'held' and e.hold_expires_at > private.now() and case
  when w.is_open is null then split_part(e.key, ':', 1) = any
    ('{creation,garment_analysis,lora_training,catalog-chunk,embed,brand,turn}')
  else not w.is_open or w.job_id is not null and not exists (select from ops.live_jobs j where j.id = w.job_id) end;
comment on view billing.idle_holds is
  'Holds of our own flows that no work will settle, and why; the nightly proof counts them as faults.';
revoke all on table billing.idle_holds from public, anon, authenticated, service_role;
grant select on table billing.idle_holds to service_role;
