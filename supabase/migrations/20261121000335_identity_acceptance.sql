-- Taking up and withdrawing invitations.

-- Only the caller who may be named in the invitation is told what became of it: the e-mail is checked before
-- everything else. The same person may call again and gets the same membership.
create function private.claimable_invitation(token text) returns identity.workspace_invitations
language plpgsql
set search_path = ''
as $$
declare
  v_invitation identity.workspace_invitations;
  v_email text;
  v_confirmed boolean;
  v_facts jsonb;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person may accept an invitation.');
  end if;
  select * into v_invitation from identity.workspace_invitations i
  where i.token_hash = private.token_hash(claimable_invitation.token) for update;
  if v_invitation.id is null then
    perform private.fail('unknown_invitation', 'No invitation has this token.');
  end if;
  select lower(u.email collate "C"), u.email_confirmed_at is not null into v_email, v_confirmed
  from auth.users u where u.id = auth.uid();
  v_facts := jsonb_build_object('invitation_id', v_invitation.id);
  if v_email is distinct from v_invitation.email then
    perform private.fail('invitation_for_other_email', 'The invitation was sent to another e-mail address.', v_facts);
  elsif not v_confirmed then
    perform private.fail('email_not_confirmed', 'The invited e-mail address is not confirmed yet.', v_facts);
  elsif v_invitation.status = 'accepted' and v_invitation.accepted_by is distinct from auth.uid() then
    perform private.fail('invitation_used', 'The invitation was accepted before.', v_facts);
  elsif v_invitation.status = 'revoked' then
    perform private.fail('invitation_revoked', 'The invitation was withdrawn.', v_facts);
  elsif v_invitation.status = 'pending' and v_invitation.expires_at <= private.now() then
    perform private.fail('invitation_expired', 'The invitation has expired.',
      v_facts || jsonb_build_object('expires_at', v_invitation.expires_at));
  end if;
  return v_invitation;
end $$;
comment on function private.claimable_invitation(text) is
  'The invitation of a token, locked, if the caller may take it up.';
revoke all on function private.claimable_invitation from public, anon, authenticated, service_role;

-- An invitation is worth what its sender may still give: one from an admin who has gone is withdrawn.
create function private.accept_invitation(token text) returns identity.workspace_members
language plpgsql security definer
set search_path = ''
as $$
declare
  v_invitation identity.workspace_invitations := private.claimable_invitation(accept_invitation.token);
  v_member identity.workspace_members;
begin
  perform from identity.workspaces w where w.id = v_invitation.workspace_id and w.deleted_at is null for no key update;
  if not found then
    perform private.fail('unknown_workspace', 'The workspace of this invitation no longer exists.',
      jsonb_build_object('workspace_id', v_invitation.workspace_id));
  end if;
  if v_invitation.status = 'accepted' then
    select * into v_member from identity.workspace_members m
    where m.workspace_id = v_invitation.workspace_id and m.user_id = auth.uid();
    if v_member.id is null then
      perform private.fail('invitation_used', 'The invitation was accepted and the membership has ended since.',
        jsonb_build_object('invitation_id', v_invitation.id));
    end if;
    return v_member;
  end if;
  if v_invitation.invited_by is not null and private.member_rank(v_invitation.workspace_id, v_invitation.invited_by)
      < greatest(private.role_rank('admin'), private.role_rank(v_invitation.role)) then
    perform private.fail('invitation_revoked', 'Who sent the invitation may no longer invite.',
      jsonb_build_object('invitation_id', v_invitation.id));
  end if;
  insert into identity.workspace_members as m
    (workspace_id, user_id, role, invited_by, invited_at, joined_at)
  values (v_invitation.workspace_id, auth.uid(), v_invitation.role, v_invitation.invited_by,
    v_invitation.created_at, private.now())
  on conflict on constraint workspace_members_once do update
  set expires_at = null, role = case
    when m.expires_at <= private.now() or private.role_rank(m.role) < private.role_rank(excluded.role)
    then excluded.role else m.role end
  returning * into v_member;
  update identity.workspace_invitations i
  set status = 'accepted', accepted_at = private.now(), accepted_by = auth.uid()
  where i.id = v_invitation.id;
  return v_member;
end $$;
comment on function private.accept_invitation(text) is 'Core of identity.accept_invitation.';
revoke all on function private.accept_invitation from public, anon, authenticated, service_role;
grant execute on function private.accept_invitation to authenticated, service_role;

create function identity.accept_invitation(token text) returns identity.workspace_members
language sql
set search_path = ''
as $$ select private.accept_invitation(accept_invitation.token) $$;
comment on function identity.accept_invitation(text) is
  'Makes the caller a member, once, if the invitation went to the caller''s confirmed e-mail address.';
revoke all on function identity.accept_invitation from public, anon, authenticated, service_role;
grant execute on function identity.accept_invitation to authenticated, service_role;

create function private.revoke_invitation(id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace_id uuid;
  v_status text;
begin
  select i.workspace_id, i.status into v_workspace_id, v_status
  from identity.workspace_invitations i
  where i.id = revoke_invitation.id and private.has_role(i.workspace_id, 'viewer') for update;
  if not found then
    perform private.fail('unknown_invitation', 'There is no such invitation.',
      jsonb_build_object('invitation_id', revoke_invitation.id));
  end if;
  perform private.require_role(v_workspace_id, 'admin');
  if v_status = 'accepted' then
    perform private.fail('invitation_used', 'The invitation was accepted before; remove the member instead.',
      jsonb_build_object('invitation_id', revoke_invitation.id));
  end if;
  update identity.workspace_invitations i
  set status = 'revoked', revoked_at = coalesce(i.revoked_at, private.now())
  where i.id = revoke_invitation.id;
end $$;
comment on function private.revoke_invitation(uuid) is 'Core of identity.revoke_invitation.';
revoke all on function private.revoke_invitation from public, anon, authenticated, service_role;
grant execute on function private.revoke_invitation to authenticated, service_role;

create function identity.revoke_invitation(id uuid) returns void
language sql
set search_path = ''
as $$ select private.revoke_invitation(revoke_invitation.id) $$;
comment on function identity.revoke_invitation(uuid) is
  'An admin withdraws a pending invitation; its token is worthless from then on.';
revoke all on function identity.revoke_invitation from public, anon, authenticated, service_role;
grant execute on function identity.revoke_invitation to authenticated, service_role;
