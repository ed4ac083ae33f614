-- What a screen of knowledge and assistant waits for.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table ai.knowledge_ingestion_jobs, ai.knowledge_sources,
      ai.conversation_messages, ai.conversation_turns, ai.autonomous_tasks, ai.brand_intelligence;
  end if;
end $$;
