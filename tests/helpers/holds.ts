/**
 * A row for each hold that no work will ever end: its row is gone or has ended, or the job that would settle it is not
 * live. Every flow that holds credits has a line here.
 */
export const idleHolds = `
  with work (usage_event_id, is_open, job_id) as (
    select c.usage_event_id, c.completed_at is null, c.job_id from studio.creations c
    union all select a.usage_event_id, a.completed_at is null, a.job_id from studio.garment_analyses a
    union all select t.usage_event_id, t.completed_at is null, t.job_id from studio.lora_trainings t
    union all select k.usage_event_id, k.completed_at is null, k.job_id from commerce.catalog_job_chunks k
    union all select b.usage_event_id, b.completed_at is null, b.job_id from ai.embedding_batches b
    union all select i.usage_event_id, i.analysis_status = 'pending', i.job_id from ai.brand_intelligence i
    union all select u.usage_event_id, u.completed_at is null, null from ai.conversation_turns u
  )
  select e.key, e.amount_micro from billing.usage_events e
  where e.status = 'held' and e.hold_expires_at > private.now() and not exists (select from work w
    where w.usage_event_id = e.id and w.is_open
      and (w.job_id is null or exists (select from ops.live_jobs j where j.id = w.job_id)))`;
