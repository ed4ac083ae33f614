import { type Attack, add, type Scene, there } from "./attack.ts";

export async function ownSocial(scene: Scene): Promise<void> {
  const { ids } = scene;
  ids.post = await add(
    scene,
    `insert into social.posts (workspace_id, connected_account_id, platform_post_id, posted_at)
      values ($1, $2, 'p', now())`,
    [ids.instagram],
  );
  ids.conversation = await add(
    scene,
    `insert into social.conversations (workspace_id, connected_account_id, platform_user_id, last_inbound_at,
        window_ends_at)
      values ($1, $2, 'u', now(), now() + interval '1 day')`,
    [ids.instagram],
  );
  const message = `insert into social.messages (workspace_id, connected_account_id, conversation_id, sender_platform_id,
    message_text, direction, source, status, platform_message_id, sent_at) values ($1, $2, $3, 'u', 'Hello',`;
  const params = [ids.instagram, ids.conversation];
  ids.message = await add(scene, `${message} 'inbound', 'person', 'received', 'm', now())`, params);
  ids.answer = await add(scene, `${message} 'outbound', 'member', 'queued', null, null)`, params);
}

const conversation = ({ ids }: Scene) => ({ conversation_id: ids.conversation });
const account = ({ ids }: Scene) => ({ account_id: ids.instagram });
const post = ({ ids }: Scene) => ({ post_id: ids.post });

export const social: Attack[] = [
  ["private.account_overview", there, "unknown_workspace"],
  [
    "private.bind_garment",
    (s) => ({
      ...post(s),
      garment_id: s.victim.garmentId,
      trigger_keywords: [],
      use_global_keywords: true,
      category: null,
      garment_name: null,
      garment_description: null,
      is_active: true,
    }),
    "unknown_post",
  ],
  ["private.post_of_caller", post, "unknown_post"],
  ["private.test_keyword", (s) => ({ ...post(s), comment_text: "x" }), "unknown_post"],
  ["private.unbind_garment", post, "unknown_post"],
  ["private.cancel_message", ({ ids }) => ({ message_id: ids.answer }), "unknown_message"],
  ["private.react", ({ ids }) => ({ message_id: ids.message, emoji: "!" }), "unknown_message"],
  [
    "private.categorise_conversation",
    (s) => ({ ...conversation(s), category: "hidden" }),
    "unknown_conversation",
  ],
  ["private.hand_back", conversation, "unknown_conversation"],
  ["private.mark_read", conversation, "unknown_conversation"],
  [
    "private.send_message",
    (s) => ({ ...conversation(s), message_text: "Hello", media_path: null, key: null }),
    "unknown_conversation",
  ],
  [
    "private.set_conversation_status",
    (s) => ({ ...conversation(s), status: "closed" }),
    "unknown_conversation",
  ],
  ["private.take_over", (s) => ({ ...conversation(s), until: null }), "unknown_conversation"],
  ["private.request_post_sync", account, "unknown_account"],
  ["private.workspace_of_account", account, "unknown_account"],
];
