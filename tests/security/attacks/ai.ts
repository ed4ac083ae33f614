import { type Attack, has, type Scene, there } from "./attack.ts";

export async function ownAi(scene: Scene): Promise<void> {
  const { ids, db } = scene;
  const website = { ...there(scene), source_type: "website", url: "https://shop.example.com/" };
  ids.source = (await has(scene, "ai.add_knowledge_source", website)).id;
  const [reading] = await db.query("select id from ai.knowledge_ingestion_jobs where source_id = $1", [
    ids.source,
  ]);
  ids.ingestion = reading!.id;
  ids.session = (await has(scene, "ai.start_session", { ...there(scene), anonymous_id: "a" })).id;
  ids.turn = (await has(scene, "ai.begin_turn", { session_id: ids.session, content: "Hello" })).id;
  const task = { ...there(scene), task_type: "analyze_brand", title: "Voice" };
  ids.task = (await has(scene, "ai.propose_task", task)).id;
  const liked = { ...there(scene), category: "style", preference_key: "colour", preference_value: "red" };
  await has(scene, "ai.note_preference", { ...liked, anonymous_id: "a" });
}

const session = ({ ids }: Scene) => ({ session_id: ids.session });
const task = ({ ids }: Scene) => ({ task_id: ids.task });
const preference = { category: "style", preference_key: "colour", preference_value: "red" };

export const ai: Attack[] = [
  [
    "private.add_knowledge_source",
    (s) => ({
      ...there(s),
      source_type: "website",
      title: null,
      url: "https://shop.example.com/",
      storage_path: null,
      max_depth: 2,
      max_pages: 50,
      verify_every: "7 days",
      keep_for: null,
    }),
    "unknown_workspace",
  ],
  ["private.ingest_knowledge", ({ ids }) => ({ source_id: ids.source }), "unknown_knowledge_source"],
  ["private.cancel_ingestion", ({ ids }) => ({ ingestion_id: ids.ingestion }), "unknown_ingestion"],
  [
    "private.search_knowledge",
    (s) => ({
      ...there(s),
      query: "x",
      query_embedding: null,
      most: 8,
      source_types: null,
      min_similarity: null,
    }),
    "unknown_workspace",
  ],
  ["private.analyze_portfolio", there, "unknown_workspace"],
  ["private.analyze_voice", there, "unknown_workspace"],
  ["private.portfolio", ({ victim }) => ({ workspace_ids: [victim.workspaceId] }), "unknown_workspace"],
  [
    "private.start_session",
    (s) => ({
      ...there(s),
      channel: "app",
      title: null,
      customer_id: null,
      anonymous_id: "a",
      platform_session_id: null,
      state: {},
    }),
    "unknown_workspace",
  ],
  ["private.begin_turn", (s) => ({ ...session(s), content: "Hello", key: null }), "unknown_session"],
  ["private.end_session", (s) => ({ ...session(s), conversion_value_cents: 1 }), "unknown_session"],
  ["private.cancel_turn", ({ ids }) => ({ turn_id: ids.turn }), "unknown_turn"],
  [
    "private.propose_task",
    (s) => ({
      ...there(s),
      task_type: "analyze_brand",
      title: "x",
      config: {},
      scheduled_at: null,
      session_id: null,
      key: null,
    }),
    "unknown_workspace",
  ],
  // a task of one's own about another's knowledge
  [
    "private.propose_task",
    ({ ids, thief }) => ({
      workspace_id: thief.workspaceId,
      task_type: "refresh_knowledge",
      title: "x",
      config: { source_id: ids.source },
      scheduled_at: null,
      session_id: null,
      key: null,
    }),
    "unknown_knowledge_source",
  ],
  ["private.decide_task", (s) => ({ ...task(s), approve: true, note: null }), "unknown_task"],
  ["private.cancel_task", task, "unknown_task"],
  [
    "private.set_task_limits",
    (s) => ({
      ...there(s),
      auto_approve_micro: 1_000_000,
      monthly_budget_micro: null,
      allowed_types: ["creations"],
    }),
    "unknown_workspace",
  ],
  [
    "private.note_preference",
    (s) => ({
      ...there(s),
      ...preference,
      customer_id: null,
      anonymous_id: "a",
      confidence: 0.5,
      source: "explicit",
    }),
    "unknown_workspace",
  ],
  [
    "private.identify_customer",
    (s) => ({ ...there(s), anonymous_id: "a", customer_id: s.thief.id }),
    "unknown_workspace",
  ],
];
