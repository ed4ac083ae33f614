import type { TurnAnswer, TurnEvent } from "../../types/contracts-assistant.ts";
import type { Embedder } from "../_shared/ai/embeddings.ts";
import type { Content, Part, TextModel, Usage } from "../_shared/ai/gemini.ts";
import { AiError } from "../_shared/ai/provider.ts";
import { estimateTokens } from "../_shared/ai/tokens.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import {
  finishTurn,
  type Hit,
  isCancelled,
  type StoredMessage,
  searchKnowledge,
  type TurnContext,
} from "../_shared/sql/assistant.ts";
import type { Backend } from "./backend.ts";
import { contentsOf, Sources, systemPrompt } from "./prompt.ts";
import { runTool, toolsFor } from "./tools.ts";

export interface AnswerDeps {
  db: Database;
  backend: Backend;
  model: TextModel;
  embedder: Embedder | null;
  log: Log;
  now?: () => number;
}

/** Calls of the model in a turn; the last one may not use tools. */
const mostRounds = 5;
const mostTokensOfReply = 1024;
/** What is written counts so much; see private.turn_units. */
const outputWeight = 8;
const longestMs = 110_000;
const lookMs = 700;
const hitsOfTurn = 6;

class Cancelled extends Error {}

/**
 * Answers a turn: looks for what is known, asks the model, uses tools and asks again, within the units that are held.
 * However it ends, the turn is closed and its charge settled here; a crash is made good by ai.close_stale_turns.
 */
export async function answerTurn(
  deps: AnswerDeps,
  authorization: string,
  context: TurnContext,
  emit: (event: TurnEvent) => void,
): Promise<TurnAnswer> {
  const { db, model, log, now = Date.now } = deps;
  const began = now();
  const cancelled = watchForCancel(db, context.turn_id, log);
  const signal = AbortSignal.any([cancelled.signal, AbortSignal.timeout(longestMs)]);
  const turn = new Turn(deps, authorization, context, emit, signal);
  let status: "completed" | "cancelled" = "completed";
  try {
    await turn.run();
  } catch (error) {
    if (!(signal.reason instanceof Cancelled)) {
      await closeFailed(deps, context.turn_id, error);
      throw publicFailure(error, signal);
    }
    status = "cancelled";
  } finally {
    cancelled.stop();
  }
  const { citations, confidence } = turn.sources.cited(turn.said);
  const { input, output } = turn.spent();
  const answer: StoredMessage = {
    role: "assistant",
    content: turn.said,
    citations: citations.map(({ chunk_id }) => chunk_id),
    confidence,
    tool_output: { citations },
    latency_ms: Math.round(now() - began),
  };
  const messages = turn.said === "" ? turn.messages : [...turn.messages, answer];
  const closed = await finishTurn(db, context.turn_id, {
    status,
    messages,
    input,
    output,
    model: model.model,
  });
  return {
    turn_id: closed.id,
    status,
    content: turn.said,
    citations,
    input_tokens: closed.input_tokens,
    output_tokens: closed.output_tokens,
    cost_micro: closed.cost_micro,
  };
}

class Turn {
  readonly sources = new Sources();
  readonly messages: StoredMessage[] = [];
  /** All that the caller has been told so far. */
  said = "";
  #usage: Usage = { input: 0, output: 0 };
  #embedded = 0;
  #asked = 0;
  readonly #deps: AnswerDeps;
  readonly #authorization: string;
  readonly #context: TurnContext;
  readonly #emit: (event: TurnEvent) => void;
  readonly #signal: AbortSignal;

  constructor(
    deps: AnswerDeps,
    authorization: string,
    context: TurnContext,
    emit: (event: TurnEvent) => void,
    signal: AbortSignal,
  ) {
    this.#deps = deps;
    this.#authorization = authorization;
    this.#context = context;
    this.#emit = emit;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    const context = this.#context;
    const known = this.sources.add(await this.#search(context.question, hitsOfTurn));
    const system = systemPrompt(context, known);
    const tools = toolsFor(context);
    const contents = contentsOf(context);
    const toolTokens = estimateTokens(JSON.stringify(tools));
    for (let round = 1; round <= mostRounds; round++) {
      const asks = estimateTokens(system) + toolTokens + estimateTokens(JSON.stringify(contents));
      const room = this.#room() - asks;
      const mostTokens = Math.min(mostTokensOfReply, Math.floor(room / outputWeight));
      if (mostTokens < 32) return;
      // A call of a tool is paid with the next question: without room for that, none is made.
      const mayCall = round < mostRounds && room - mostTokens * outputWeight > asks;
      this.#asked += asks;
      const conversation = { system, contents, tools, mayCall, mostTokens };
      const reply = await this.#deps.model.stream(
        conversation,
        (text) => this.#say(text),
        this.#usage,
        this.#signal,
      );
      this.#asked = 0;
      const calls = reply.parts.flatMap(({ functionCall }) => functionCall ?? []);
      if (calls.length === 0 || !mayCall) {
        if (this.said === "") throw silent(reply.finishReason);
        return;
      }
      contents.push({ role: "model", parts: reply.parts }, await this.#use(calls, round));
    }
  }

  /** Tokens, told by the provider; those of a call that broke off before it told any are estimated. */
  spent(): Usage {
    const input =
      this.#usage.input + this.#embedded + (this.#asked > 0 && this.#usage.input === 0 ? this.#asked : 0);
    return { input, output: Math.max(this.#usage.output, estimateTokens(this.said)) };
  }

  #room(): number {
    const { input, output } = this.spent();
    return this.#context.limit_units * 1000 - input - outputWeight * output;
  }

  #say(text: string): void {
    this.said += text;
    this.#emit({ type: "text", text });
  }

  async #use(calls: NonNullable<Part["functionCall"]>[], round: number): Promise<Content> {
    const parts: Part[] = [];
    for (const [i, { id, name, args = {} }] of calls.entries()) {
      this.#signal.throwIfAborted();
      this.#emit({ type: "tool", name, input: args });
      const output = await runTool(name, args, {
        backend: this.#deps.backend,
        authorization: this.#authorization,
        context: this.#context,
        sources: this.sources,
        search: (query) => this.#search(query, hitsOfTurn),
        key: `turn:${this.#context.turn_id}:${round}:${i}`,
      });
      this.#emit({ type: "tool_result", name, output });
      this.messages.push({
        role: "tool",
        content: "",
        tool_name: name,
        tool_input: args,
        tool_output: output,
      });
      parts.push({ functionResponse: { ...(id && { id }), name, response: output } });
    }
    return { role: "user", parts };
  }

  /** By meaning and words; by words alone while the provider of embeddings is in trouble. */
  async #search(query: string, most: number): Promise<Hit[]> {
    const { db, embedder, log } = this.#deps;
    let vector: number[] | null = null;
    if (embedder) {
      try {
        [vector = null] = await embedder.embed([{ text: query }], "query", this.#signal);
        this.#embedded += estimateTokens(query);
      } catch (error) {
        if (!(error instanceof AiError)) throw error;
        log.warn("a question could not be embedded", { error });
      }
    }
    if (vector === null && !/[\p{L}\p{N}]/u.test(query)) return [];
    try {
      return await searchKnowledge(db, this.#context.workspace_id, { query, vector, most });
    } catch (error) {
      // Stop words alone are nothing to look for.
      if ((error as { code?: string }).code === "PT400") return [];
      throw error;
    }
  }
}

function silent(reason: string | null): AiError {
  if (reason && !["STOP", "MAX_TOKENS"].includes(reason)) {
    return new AiError("rejected", `The model does not answer this (${reason}).`);
  }
  return new AiError("unavailable", "The model said nothing.");
}

async function closeFailed({ db, model, log }: AnswerDeps, turnId: string, error: unknown): Promise<void> {
  const { code, message } = publicFailure(error);
  const end = { messages: [], input: 0, output: 0, model: model.model, error: `${code}: ${message}` };
  await finishTurn(db, turnId, { status: "failed", ...end }).catch((fault: unknown) =>
    log.error("a turn that failed could not be closed; the sweep will", { turn_id: turnId, error: fault }),
  );
}

function publicFailure(error: unknown, signal?: AbortSignal): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof AiError) {
    return error.trouble === "rejected"
      ? new ApiError(422, "provider_rejected", error.message, { cause: error })
      : new ApiError(503, "provider_unavailable", error.message, {
          hint: "Ask again in a moment; nothing was charged.",
          cause: error,
        });
  }
  if (signal?.aborted) {
    return new ApiError(504, "answer_too_slow", "The answer took too long.", { cause: error });
  }
  return new ApiError(500, "internal_error", "Something went wrong on our side.", { cause: error });
}

/** Looks now and then whether somebody wants the answer to stop. */
function watchForCancel(db: Database, turnId: string, log: Log): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout>;
  let stopped = false;
  const look = async () => {
    try {
      if (await isCancelled(db, turnId)) controller.abort(new Cancelled());
    } catch (error) {
      log.warn("whether a turn is cancelled could not be asked", { turn_id: turnId, error });
    }
    if (!stopped && !controller.signal.aborted) timer = setTimeout(() => void look(), lookMs);
  };
  timer = setTimeout(() => void look(), lookMs);
  return {
    signal: controller.signal,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
