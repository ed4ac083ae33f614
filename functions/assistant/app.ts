import type { Context, Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { streamSSE } from "hono/streaming";
import {
  type SearchAnswer,
  searchRequest,
  type TurnAnswer,
  type TurnEvent,
  turnRequest,
} from "../../types/contracts-assistant.ts";
import { AiError } from "../_shared/ai/provider.ts";
import { estimateTokens } from "../_shared/ai/tokens.ts";
import { createBase, crossOrigin, limitBody, parseBody } from "../_shared/app.ts";
import { ApiError, publicError } from "../_shared/errors.ts";
import {
  claimTurn,
  holdSearch,
  maySpend,
  type Turn,
  type TurnContext,
  turnAnswer,
  turnContext,
} from "../_shared/sql/assistant.ts";
import { type AnswerDeps, answerTurn } from "./answer.ts";
import { notSignedIn } from "./backend.ts";

export type Deps = Omit<AnswerDeps, "model"> & { model: AnswerDeps["model"] | null };

/**
 * POST /assistant/sessions/<id>/turns {content, key?}: answers a question of a conversation; as server-sent events
 * (turn, text, tool, tool_result, done, error) where the caller accepts text/event-stream, else as JSON when it is done.
 * POST /assistant/search {workspace_id, query, most?, source_types?}: chunks that answer a question, by meaning and words.
 * Errors: those of ai.begin_turn and ai.search_knowledge, provider_unavailable (503), provider_rejected (422),
 * assistant_not_set_up (503), answer_too_slow (504).
 */
export function createApp(deps: Deps): Hono {
  const { backend, db, log } = deps;
  const app = createBase("assistant", log);
  app.use(crossOrigin(["POST"]), secureHeaders({ crossOriginResourcePolicy: "cross-origin" }));

  app.post("/sessions/:id/turns", limitBody(64 * 1024), async (c) => {
    const authorization = authorizationOf(c);
    const { content, key } = parseBody(turnRequest, await c.req.text());
    const { model } = deps;
    if (!model) throw notSetUp();
    const turn = await backend.rpc<Turn>(authorization, "ai", "begin_turn", {
      session_id: c.req.param("id"),
      content,
      ...(key && { key }),
    });
    const earlier = await answeredBefore(deps, turn);
    const answer = async (emit: (event: TurnEvent) => void): Promise<TurnAnswer> => {
      if (earlier) return earlier;
      const context: TurnContext = await turnContext(db, turn.id);
      return answerTurn({ ...deps, model }, authorization, context, emit);
    };
    if (!c.req.header("accept")?.includes("text/event-stream")) return c.json(await answer(() => {}));
    return streamSSE(c, async (stream) => {
      // One after the other, and none lost: the stream is written as fast as the caller reads.
      let written: Promise<unknown> = Promise.resolve();
      const emit = ({ type, ...data }: TurnEvent) => {
        written = written.then(() => stream.writeSSE({ event: type, data: JSON.stringify(data) }));
      };
      emit({ type: "turn", turn_id: turn.id });
      try {
        emit({ type: "done", ...(await answer(emit)) });
      } catch (error) {
        const { code, message, status } = publicError(error);
        log.warn("a turn failed", { turn_id: turn.id, code, error });
        emit({ type: "error", code, message, status });
      }
      await written;
    });
  });

  app.post("/search", limitBody(16 * 1024), async (c) => {
    const authorization = authorizationOf(c);
    const { workspace_id, query, most, source_types } = parseBody(searchRequest, await c.req.text());
    const args = { workspace_id, query, most, ...(source_types && { source_types }) };
    const search = (more: { query_embedding?: number[] } = {}) =>
      backend.rpc<SearchAnswer["hits"]>(authorization, "ai", "search_knowledge", { ...args, ...more });
    // Members may spend; whoever may only look is answered by words, and a stranger is refused there.
    const person = personOf(authorization);
    if (!deps.embedder || !person || !(await maySpend(db, workspace_id, person))) {
      return c.json({ hits: await search() } satisfies SearchAnswer);
    }
    const hold = await holdSearch(db, workspace_id, Math.max(1, estimateTokens(query)));
    const signal = AbortSignal.timeout(15_000);
    const vector = await deps.embedder.embed([{ text: query }], "query", signal).then(
      ([first]) => first,
      (error: unknown) => {
        if (!(error instanceof AiError)) log.error("a question could not be embedded", { error });
        else log.warn("a question could not be embedded", { error });
        return undefined;
      },
    );
    await hold.settle(vector !== undefined);
    return c.json({ hits: await search(vector && { query_embedding: vector }) } satisfies SearchAnswer);
  });
  return app;
}

/** What was answered before to the same key. Errors: turn_running, when it is being answered elsewhere. */
async function answeredBefore({ db }: Deps, turn: Turn): Promise<TurnAnswer | null> {
  if (await claimTurn(db, turn.id)) return null;
  if (turn.status === "running") {
    throw new ApiError(409, "turn_running", "This question is being answered.", {
      hint: "Wait for the answer, or read it in ai.conversation_messages.",
    });
  }
  if (turn.status === "failed") {
    const [code = "internal_error", message = "The answer failed."] = (turn.error_message ?? "").split(
      /: (.*)/s,
    );
    throw new ApiError(502, code, message, { hint: "Ask again with a new key." });
  }
  const { id, status, input_tokens, output_tokens, cost_micro } = turn;
  const answer = await turnAnswer(db, id);
  const { content = "", notes = null } = answer ?? {};
  return {
    turn_id: id,
    status,
    content,
    citations: notes?.citations ?? [],
    input_tokens,
    output_tokens,
    cost_micro,
  };
}

function notSetUp(): ApiError {
  return new ApiError(503, "assistant_not_set_up", "No model is set up.");
}

/** Whose token it is. The gateway has verified it (verify_jwt); here it is only read. */
function personOf(authorization: string): string | null {
  try {
    const [, claims = ""] = authorization.replace(/^Bearer /i, "").split(".");
    const { sub } = JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))) as { sub?: unknown };
    return typeof sub === "string" ? sub : null;
  } catch {
    // A key, and no token of a person.
    return null;
  }
}

function authorizationOf(c: Context): string {
  const authorization = c.req.header("authorization");
  if (!authorization) throw notSignedIn();
  return authorization;
}
