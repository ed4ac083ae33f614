import { type Attack, add, connect, has, type Scene, there } from "./attack.ts";

export async function ownIntegrations(scene: Scene): Promise<void> {
  const { ids, victim } = scene;
  ids.shop = await connect(scene, "shopify");
  ids.amazon = await connect(scene, "amazon");
  ids.instagram = await connect(scene, "instagram");
  // of a connection that the victim has begun and not claimed
  ids.code = crypto.randomUUID();
  const endpoint = { ...there(scene), url: "https://hooks.example.com/" };
  ids.endpoint = (await has(scene, "integrations.create_webhook_endpoint", endpoint)).id;
  await add(
    scene,
    `insert into integrations.pending_connections (workspace_id, user_id, provider, external_account_id, account,
        secrets, code_hash)
      values ($1, $2, 'shopify', 'x', '{}', '[]', sha256(convert_to($3, 'UTF8')))`,
    [victim.id, ids.code],
  );
}

const endpoint = { event_types: null, description: null, ordered: false };
const elsewhere = "https://thief.example.com/";

export const integrations: Attack[] = [
  ["private.claim_connection", ({ ids }) => ({ code: ids.code }), "unknown_connection"],
  [
    "private.create_webhook_endpoint",
    (s) => ({ ...there(s), ...endpoint, url: elsewhere }),
    "unknown_workspace",
  ],
  ["private.delete_webhook_endpoint", ({ ids }) => ({ id: ids.endpoint }), "unknown_endpoint"],
  ["private.disconnect_account", ({ ids }) => ({ id: ids.shop }), "unknown_account"],
  [
    "private.replay_webhook_events",
    ({ ids }) => ({ id: ids.endpoint, from_at: "2020-01-01", until_at: null, delivered: true }),
    "unknown_endpoint",
  ],
  ["private.rotate_webhook_secret", ({ ids }) => ({ id: ids.endpoint, at_once: true }), "unknown_endpoint"],
  ["private.send_test_event", ({ ids }) => ({ id: ids.endpoint }), "unknown_endpoint"],
  [
    "private.start_oauth",
    (s) => ({ ...there(s), provider: "instagram", external_account_id: null, return_to: null }),
    "unknown_workspace",
  ],
  [
    "private.update_webhook_endpoint",
    ({ ids }) => ({ id: ids.endpoint, ...endpoint, url: elsewhere, enabled: true }),
    "unknown_endpoint",
  ],
];
