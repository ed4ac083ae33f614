-- Where the studio's pictures are kept. The first folder of a path is the workspace, and membership of it
-- decides; results are written by the service only.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('studio-uploads', 'studio-uploads', false, 20971520, array['image/png', 'image/jpeg', 'image/webp']),
  ('studio-results', 'studio-results', false, 52428800,
    array['image/png', 'image/jpeg', 'image/webp', 'video/mp4', 'video/webm'])
on conflict (id) do nothing;

create policy "Members may see their workspace's studio pictures" on storage.objects for select to authenticated
  using (bucket_id in ('studio-uploads', 'studio-results')
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may upload to their workspace's folder" on storage.objects for insert to authenticated
  with check (bucket_id = 'studio-uploads'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Uploaders and editors may replace uploads" on storage.objects for update to authenticated
  using (bucket_id = 'studio-uploads'
    and (private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[])
      or (owner_id = (select auth.uid())::text
        and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[]))))
  with check (bucket_id = 'studio-uploads'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Uploaders and editors may delete studio pictures" on storage.objects for delete to authenticated
  using (bucket_id in ('studio-uploads', 'studio-results')
    and (private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[])
      or (owner_id = (select auth.uid())::text
        and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[]))));
