import { type Attack, has, type Scene, there } from "./attack.ts";

export async function ownIdentity(scene: Scene): Promise<void> {
  const { ids } = scene;
  const invited = { ...there(scene), email: "a@b.example", role: "member" };
  ids.invitation = (await has(scene, "identity.invite_member", invited)).id;
  ids.apiKey = (await has(scene, "identity.create_api_key", { ...there(scene), name: "k" })).id;
}

export const identity: Attack[] = [
  ["private.accept_invitation", ({ ids }) => ({ token: ids.invitation }), "unknown_invitation"],
  [
    "private.change_member_role",
    (s) => ({ ...there(s), user_id: s.thief.id, role: "owner" }),
    "unknown_workspace",
  ],
  [
    "private.create_api_key",
    (s) => ({ ...there(s), name: "k", permissions: [], expires_at: null }),
    "unknown_workspace",
  ],
  ["private.delete_workspace", there, "unknown_workspace"],
  [
    "private.invite_member",
    (s) => ({ ...there(s), email: s.thief.email, role: "owner" }),
    "unknown_workspace",
  ],
  // neither another's brand under a holding of one's own, nor one's own brand under another's holding
  ["private.join_holding", (s) => ({ ...there(s), holding_id: s.thief.workspaceId }), "unknown_workspace"],
  [
    "private.join_holding",
    ({ victim, thief }) => ({ workspace_id: thief.workspaceId, holding_id: victim.workspaceId }),
    "unknown_workspace",
  ],
  ["private.remove_member", (s) => ({ ...there(s), user_id: s.victim.id }), "unknown_workspace"],
  ["private.revoke_api_key", ({ ids }) => ({ id: ids.apiKey }), "unknown_api_key"],
  ["private.revoke_invitation", ({ ids }) => ({ id: ids.invitation }), "unknown_invitation"],
  [
    "private.running_jobs",
    (s) => ({ ...there(s), parent_id: null, before: null, most: 50 }),
    "unknown_workspace",
  ],
];
