// What the assistant asks of the database in its own name.

import type { Citation } from "../../../types/contracts-assistant.ts";
import type { Database, Statement } from "../db.ts";

export interface TurnContext {
  turn_id: string;
  session_id: string;
  workspace_id: string;
  status: "running" | "completed" | "failed" | "cancelled";
  created_by: string | null;
  channel: string;
  customer_id: string | null;
  anonymous_id: string | null;
  brand: string;
  brand_description: string | null;
  voice: Record<string, unknown>;
  limit_units: number;
  preferences: Record<string, unknown>;
  question: string;
  history: { role: "user" | "assistant"; content: string }[];
}

export interface Turn {
  id: string;
  workspace_id: string;
  session_id: string;
  status: "running" | "completed" | "failed" | "cancelled";
  input_tokens: number;
  output_tokens: number;
  cost_micro: number;
  error_message: string | null;
}

export interface StoredMessage {
  role: "tool" | "assistant";
  content: string;
  tool_name?: string;
  tool_input?: unknown;
  tool_output?: unknown;
  citations?: string[];
  confidence?: number | null;
  latency_ms?: number;
}

export interface Hit {
  chunk_id: string;
  source_type: string;
  source_url: string | null;
  source_title: string | null;
  heading: string | null;
  content: string;
  similarity: number | null;
  score: number;
}

const statements = {
  context: { name: "turn_context", text: "select ai.turn_context($1) as context", repeatable: true },
  claim: {
    name: "claim_turn",
    text: `update ai.conversation_turns set claimed_at = now()
      where id = $1 and claimed_at is null and status = 'running' returning id`,
  },
  cancelled: {
    name: "turn_cancelled",
    text: `select cancel_requested_at is not null or status <> 'running' as cancelled
      from ai.conversation_turns where id = $1`,
    repeatable: true,
  },
  finish: {
    name: "finish_turn",
    text: "select * from ai.finish_turn($1, $2, $3::jsonb, $4, $5, $6, $7)",
    repeatable: true,
  },
  answer: {
    name: "turn_answer",
    text: `select content, tool_output as notes from ai.conversation_messages
      where turn_id = $1 and role = 'assistant' order by position desc limit 1`,
    repeatable: true,
  },
  search: {
    name: "search_knowledge",
    text: "select * from ai.search_knowledge($1, $2, $3::jsonb, $4, $5)",
    repeatable: true,
  },
  spend: {
    name: "may_spend",
    text: `select private.member_rank($1, private.try_uuid($2)) >= private.role_rank('member') as may`,
    repeatable: true,
  },
  hold: {
    name: "hold_search",
    text: `select usage_event_id as id from billing.authorize_usage($1, 'knowledge', $2, $3,
      jsonb_build_object('service_subtype', 'search'))`,
    repeatable: true,
  },
  capture: { name: "capture_search", text: "select billing.capture_usage($1)", repeatable: true },
  release: { name: "release_search", text: "select billing.release_usage($1, $2)", repeatable: true },
} satisfies Record<string, Statement>;

export async function turnContext(db: Database, turnId: string): Promise<TurnContext> {
  return (await db.row<{ context: TurnContext }>(statements.context, [turnId])).context;
}

/** True once: whoever it is told answers the turn. */
export async function claimTurn(db: Database, turnId: string): Promise<boolean> {
  return (await db.rows(statements.claim, [turnId])).length > 0;
}

export async function isCancelled(db: Database, turnId: string): Promise<boolean> {
  return (await db.row<{ cancelled: boolean }>(statements.cancelled, [turnId])).cancelled;
}

/** Stores an answer and settles its charge; the first result, when it was finished before. */
export async function finishTurn(
  db: Database,
  turnId: string,
  end: {
    status: "completed" | "cancelled" | "failed";
    messages: StoredMessage[];
    input: number;
    output: number;
    model: string;
    error?: string;
  },
): Promise<Turn> {
  const { status, messages, input, output, model, error = null } = end;
  return db.row<Turn>(statements.finish, [
    turnId,
    status,
    JSON.stringify(messages),
    input,
    output,
    model,
    error,
  ]);
}

export async function turnAnswer(
  db: Database,
  turnId: string,
): Promise<{ content: string; notes: { citations?: Citation[] } | null } | null> {
  const [answer] = await db.rows<{ content: string; notes: { citations?: Citation[] } | null }>(
    statements.answer,
    [turnId],
  );
  return answer ?? null;
}

export function searchKnowledge(
  db: Database,
  workspaceId: string,
  {
    query,
    vector,
    most,
    sourceTypes,
  }: {
    query: string;
    vector: number[] | null;
    most: number;
    sourceTypes?: string[] | undefined;
  },
): Promise<Hit[]> {
  return db.rows<Hit>(statements.search, [
    workspaceId,
    query,
    vector && JSON.stringify(vector),
    most,
    sourceTypes ?? null,
  ]);
}

/** Is the person a member of the workspace, or more? */
export async function maySpend(db: Database, workspaceId: string, userId: string): Promise<boolean> {
  return (await db.row<{ may: boolean }>(statements.spend, [workspaceId, userId])).may;
}

/** Holds the price of embedding a question; settle() captures it or gives it back. */
export async function holdSearch(
  db: Database,
  workspaceId: string,
  tokens: number,
): Promise<{ settle(done: boolean): Promise<void> }> {
  const { id } = await db.row<{ id: string }>(statements.hold, [
    workspaceId,
    tokens / 1000,
    `search:${crypto.randomUUID()}`,
  ]);
  return {
    settle: async (done) => {
      if (done) await db.rows(statements.capture, [id]);
      else await db.rows(statements.release, [id, "the search failed"]);
    },
  };
}
