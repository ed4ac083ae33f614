-- Invitations: single use, bound to an e-mail address, kept only as the hash of their token.

insert into private.error_codes (name, sqlstate, hint) values
  ('already_member', 'PT409', 'Change the member''s role instead of inviting again.'),
  ('unknown_invitation', 'PT404', 'Open the newest invitation mail; inviting again makes older tokens worthless.'),
  ('invitation_expired', 'PT410', 'Ask an admin of the workspace to invite you again.'),
  ('invitation_revoked', 'PT410', 'Ask an admin of the workspace to invite you again.'),
  ('invitation_used', 'PT409', 'An invitation works once; ask an admin to invite you again.'),
  ('invitation_for_other_email', 'PT403', 'Sign in with the e-mail address that the invitation was sent to.'),
  ('email_not_confirmed', 'PT403', 'Confirm your e-mail address first, then open the invitation again.');

create table identity.workspace_invitations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  email text not null,
  role text not null default 'member',
  status text not null default 'pending',
  token_hash bytea not null,
  invited_by uuid,
  expires_at timestamptz not null,
  accepted_at timestamptz,
  accepted_by uuid,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint workspace_invitations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint workspace_invitations_invited_by_fkey foreign key (invited_by)
    references identity.profiles (id) on delete set null,
  constraint workspace_invitations_accepted_by_fkey foreign key (accepted_by)
    references identity.profiles (id) on delete set null,
  constraint workspace_invitations_token_hash_key unique (token_hash),
  constraint workspace_invitations_token_hash_is_sha256 check (octet_length(token_hash) = 32),
  constraint workspace_invitations_email_shape
    check (email = lower(email) and email ~ '^[^@\s]+@[^@\s]+$' and char_length(email) <= 320),
  constraint workspace_invitations_role_known check (role in ('viewer', 'member', 'editor', 'admin', 'owner')),
  constraint workspace_invitations_status_known check (status in ('pending', 'accepted', 'revoked')),
  constraint workspace_invitations_accepted_says_when check ((status = 'accepted') = (accepted_at is not null)),
  constraint workspace_invitations_accepted_by_when_accepted check (accepted_by is null or status = 'accepted'),
  constraint workspace_invitations_revoked_says_when check ((status = 'revoked') = (revoked_at is not null))
);
comment on table identity.workspace_invitations is
  'Who was invited into a workspace, in which role, and what became of it.';
comment on column identity.workspace_invitations.token_hash is
  'SHA-256 of the token, which is shown once and never stored.';
create unique index workspace_invitations_one_pending on identity.workspace_invitations (workspace_id, email)
  where status = 'pending';
create index workspace_invitations_workspace_id_idx on identity.workspace_invitations (workspace_id, created_at desc);
create index workspace_invitations_invited_by_idx on identity.workspace_invitations (invited_by);
create index workspace_invitations_accepted_by_idx on identity.workspace_invitations (accepted_by);
create index workspace_invitations_email_idx on identity.workspace_invitations (email) where status = 'pending';
create trigger touch_workspace_invitations before update on identity.workspace_invitations
  for each row execute function private.touch_updated_at();
alter table identity.workspace_invitations enable row level security;
revoke all on table identity.workspace_invitations from public, anon, authenticated, service_role;
grant select (
  id, workspace_id, email, role, status, invited_by, expires_at, accepted_at, accepted_by, revoked_at, created_at,
  updated_at
) on table identity.workspace_invitations to authenticated;
grant select, insert, update, delete on table identity.workspace_invitations to service_role;

create policy "Admins see the invitations of their workspaces" on identity.workspace_invitations
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

create function private.token_hash(token text) returns bytea
language sql immutable
set search_path = ''
as $$ select pg_catalog.sha256(pg_catalog.convert_to(token, 'UTF8')) $$;
comment on function private.token_hash(text) is 'SHA-256 of a token that only its holder knows.';
revoke all on function private.token_hash from public, anon, authenticated, service_role;
grant execute on function private.token_hash to service_role;

-- Two random uuids are 244 random bits of the platform's strong generator.
create function private.new_token() returns text
language sql volatile
set search_path = ''
as $$ select replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '') $$;
comment on function private.new_token() is 'A secret of 64 hexadecimal digits.';
revoke all on function private.new_token from public, anon, authenticated, service_role;
grant execute on function private.new_token to service_role;

create type identity.new_invitation as (
  id uuid, workspace_id uuid, email text, role text, status text, invited_by uuid, expires_at timestamptz,
  created_at timestamptz, token text
);
comment on type identity.new_invitation is 'An invitation with its token, as the sender sees it this once.';

create function private.invite_member(workspace_id uuid, email text, role text)
returns identity.new_invitation
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_email text := lower(btrim(invite_member.email));
  v_token text := private.new_token();
  v_invitation identity.new_invitation;
begin
  perform private.require_role(invite_member.workspace_id, 'admin');
  -- Accounts have addresses of ASCII characters. Others look alike and fold into one another (the sign for kelvin
  -- is a k in lower case), so that an invitation would open for somebody else.
  if v_email is null or v_email !~ '^[^@\s]+@[^@\s]+$' or char_length(v_email) > 320
    or octet_length(invite_member.email) <> char_length(invite_member.email) then
    perform private.fail('invalid_argument', 'This is not an e-mail address.',
      jsonb_build_object('argument', 'email', 'value', left(v_email, 320)));
  end if;
  perform private.require_role(invite_member.workspace_id, coalesce(invite_member.role, ''));
  perform from identity.workspaces w where w.id = invite_member.workspace_id and w.deleted_at is null for share;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', invite_member.workspace_id));
  end if;
  if exists (
    select from auth.users u
    where lower(u.email collate "C") = v_email and private.member_rank(invite_member.workspace_id, u.id) > 0
  ) then
    perform private.fail('already_member', format('%s is a member already.', v_email),
      jsonb_build_object('workspace_id', invite_member.workspace_id, 'email', v_email));
  end if;
  insert into identity.workspace_invitations as i (workspace_id, email, role, token_hash, invited_by, expires_at)
  values (invite_member.workspace_id, v_email, invite_member.role, private.token_hash(v_token), auth.uid(),
    private.now() + interval '7 days')
  on conflict (workspace_id, email) where status = 'pending' do update
  set role = excluded.role, token_hash = excluded.token_hash, invited_by = excluded.invited_by,
    expires_at = excluded.expires_at
  returning i.id, i.workspace_id, i.email, i.role, i.status, i.invited_by, i.expires_at, i.created_at, v_token
  into v_invitation;
  return v_invitation;
end $$;
comment on function private.invite_member(uuid, text, text) is 'Core of identity.invite_member.';
revoke all on function private.invite_member from public, anon, authenticated, service_role;
grant execute on function private.invite_member to authenticated, service_role;

create function identity.invite_member(workspace_id uuid, email text, role text)
returns identity.new_invitation
language sql
set search_path = ''
as $$ select private.invite_member(invite_member.workspace_id, invite_member.email, invite_member.role) $$;
comment on function identity.invite_member(uuid, text, text) is
  'Invites an e-mail address for seven days and shows the token once; inviting again replaces the old token.';
revoke all on function identity.invite_member from public, anon, authenticated, service_role;
grant execute on function identity.invite_member to authenticated, service_role;
