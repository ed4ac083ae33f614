// A soak of the bot: comments by the thousand under posts of many accounts, told twice, late and out of order, through
// the webhooks function, the queue and the worker to the stand-in of Instagram, which loses answers and enforces limits.
// What the figures say in the end is held against what people did and what Instagram has.
import { setTimeout as sleep } from "node:timers/promises";
import type { SupabaseClient } from "@supabase/supabase-js";
import { eventually, must, type Person, type TestStack } from "../e2e/stack.ts";
import { type Brand, photo, type Row, spread, tools } from "./bot-brands.ts";

/** Comments under one account's posts: fewer messages follow than an account may send in an hour. */
const perAccount = 200;

export type Counts = Record<string, number>;
export interface BotRun {
  seconds: number;
  accounts: number;
  /** Steps of the funnel: as people and Instagram know it, as it was recorded, as the figures say it. */
  expected: Counts;
  recorded: Counts;
  reported: { total: Counts; days: Counts; hours: Counts; posts: Counts; views: Counts };
  /** Faults of the proof of figures, of the ledger, of the queue (dead jobs). */
  faults: { figures: number; ledger: number; dead: number };
  /** Private replies by comment at Instagram: more than one is a fault. */
  mostReplies: number;
  /** What Instagram told, and how often; calls it refused for its limits; hours that had to pass until all was sent. */
  told: { webhooks: number; delivered: number; throttled: number; hours: number };
}

export async function runBot(s: TestStack, comments: number): Promise<BotRun> {
  const began = performance.now();
  const { meta, connect } = tools(s);
  const count = Math.max(2, Math.ceil(comments / perAccount));
  const brands: Brand[] = [];
  let person: Person | undefined;
  let hours = 0;
  for (let n = 0; n < count; n++) {
    if (n % 10 === 0) person = await s.person(10_000_000);
    brands.push(await connect(person!, n));
  }
  await meta("/_control", { duplicate: 1 });
  // Here and there, as on a network: failures in a row would be an outage, which the circuit waits for.
  await meta("/_control", { fail: "answer", times: Math.ceil(comments / 50), every: 10 });
  await spread(brands, (brand, n) => comment(brand, n, Math.ceil(comments / count)));
  await settle("private replies");
  await meta("/_control", { late_ms: 300 });
  await spread(brands, (brand) => answer(brand));
  await settle("photo requests");
  await spread(brands, (brand, n) => send(brand, n));
  await settle("try-ons");
  return await result();

  /** Half of all comments ask for a try-on; some of those stand under a post without a garment. */
  async function comment(brand: Brand, n: number, each: number): Promise<void> {
    for (let from = 0; from < each; from += 20) {
      const actions = Array.from({ length: Math.min(20, each - from) }, (_, i) => {
        const c = from + i;
        const username = `p${n}x${c}`;
        const asks = c % 2 === 0;
        const post = c % 10 === 4 ? brand.other : brand.bound;
        if (asks && post === brand.bound) brand.usernames.push(username);
        return ["comment", username, post, asks ? "Tryon please!" : "So nice", { advertised: c % 7 === 0 }];
      });
      // every other batch is told out of order
      if (from % 40 === 20) await meta("/_control", { reorder: true, times: 5 });
      brand.comments.push(...(await meta(`/_accounts/${brand.external}`, actions)));
    }
  }

  /** Three in ten of those who were replied to write back. */
  async function answer(brand: Brand): Promise<void> {
    const writers = brand.usernames.filter((_, i) => i % 10 < 3);
    for (const username of writers)
      await meta(`/_accounts/${brand.external}`, [["say", username, "yes please"]]);
  }

  /** One of them in ten sends a photo: the first account's, and of every other account one. */
  async function send(brand: Brand, n: number): Promise<void> {
    const writers = brand.usernames.filter((_, i) => i % 10 < 3);
    for (const username of writers.slice(0, n === 0 ? 3 : 1)) {
      const url = await photo(s);
      await meta(`/_accounts/${brand.external}`, [["say", username, null, [{ type: "image", url }]]]);
    }
  }

  /** Waits until nothing is under way; where accounts have used up what they may send, lets an hour pass. */
  async function settle(what: string): Promise<void> {
    let last = "";
    let quiet = 0;
    let stalled = 0;
    await eventually(
      what,
      async () => {
        await sleep(1_000);
        const [state] = await s.sql<Row>(
          `select (select count(*)::int from ops.live_jobs j where j.kind ~ '^(social|webhook|studio)\\.') as jobs,
            (select count(*)::int from social.messages m where m.status in ('queued', 'sending')) as messages,
            (select count(*)::int from social.bot_interactions) as steps`,
        );
        if (state!.jobs === 0 && state!.messages === 0) return ++quiet >= 3;
        quiet = 0;
        const now = JSON.stringify(state);
        stalled = now === last ? stalled + 1 : 0;
        if (stalled >= 3) {
          await passAnHour();
          stalled = 0;
        }
        last = now;
        return false;
      },
      120 + comments,
    );
  }

  async function passAnHour(): Promise<void> {
    hours++;
    for (const { external } of brands)
      await meta(`/_accounts/${external}/settings`, { messagesPerHour: null });
    await s.sql(
      "update social.messages set sent_at = sent_at - interval '2 hours' where direction = 'outbound'",
    );
    // what was refused has used up a part of the queue's own limit of the account, too
    await s.sql("update ops.starts set started_at = started_at - interval '2 hours'");
    await s.sql("update ops.limit_keys set closed_until = null, opens_at = now()");
    await s.hurry();
  }

  async function result(): Promise<BotRun> {
    const accounts: Row[] = [];
    for (const { external } of brands) accounts.push(await meta(`/_accounts/${external}`));
    const control = await (await fetch(`${s.stack.standins.meta}/_control`)).json();
    const ids = brands.map(({ account }) => account);
    const recorded = await s.sql<{ kind: string; n: number }>(
      "select kind, count(*)::int as n from social.bot_interactions where account_id = any ($1) group by kind",
      [ids],
    );
    const one = async (sql: string) => (await s.sql<{ n: number }>(sql))[0]!.n;
    return {
      seconds: (performance.now() - began) / 1000,
      accounts: count,
      expected: expectedOf(brands, accounts),
      recorded: Object.fromEntries(recorded.map(({ kind, n }) => [kind, n])),
      reported: await reportsOf(brands),
      faults: {
        figures: await one("select count(*)::int as n from social.verify_counts()"),
        ledger: (await s.faults()).length,
        dead: await one("select count(*)::int as n from ops.jobs where state = 'dead'"),
      },
      mostReplies: Math.max(...accounts.flatMap((account) => [...repliesOf(account).values()])),
      told: {
        webhooks: control.counts.webhooks?.created ?? 0,
        delivered: control.counts.webhooks?.delivered ?? 0,
        throttled: await one(
          "select coalesce(sum((h.error_types ->> 'throttled')::int), 0)::int as n from social.account_health h",
        ),
        hours,
      },
    };
  }
}

/** What people did and what Instagram has, as steps of the funnel. */
function expectedOf(brands: Brand[], accounts: Row[]): Counts {
  const counts: Counts = {};
  const add = (kind: string, n = 1) => {
    counts[kind] = (counts[kind] ?? 0) + n;
  };
  for (const [n, brand] of brands.entries()) {
    const { id, threads } = accounts[n]!;
    const messages: Row[] = Object.values(threads as Row).flatMap((thread) => thread.messages);
    const outbound = messages.filter(({ from }) => from === id);
    const inbound = messages.filter(({ from }) => from !== id);
    add("comment_received", brand.comments.length);
    add("keyword_matched", brand.usernames.length);
    add("private_reply_sent", outbound.filter(({ comment_id }) => comment_id !== undefined).length);
    add("message_sent", outbound.length);
    add("message_received", inbound.length);
    add("conversation_started", new Set(inbound.map(({ from }) => from)).size);
    const photos = inbound.filter(({ attachments }) => attachments.length > 0).length;
    add("photo_requested", inbound.length - photos);
    for (const kind of ["photo_received", "tryon_requested", "tryon_completed", "result_sent"])
      add(kind, photos);
  }
  return counts;
}

function repliesOf(account: Row): Map<string, number> {
  const replies = new Map<string, number>();
  for (const thread of Object.values(account.threads as Row)) {
    for (const { comment_id } of thread.messages) {
      if (comment_id !== undefined) replies.set(comment_id, (replies.get(comment_id) ?? 0) + 1);
    }
  }
  return replies;
}

/** The figures as members read them, summed over all accounts. */
async function reportsOf(brands: Brand[]): Promise<BotRun["reported"]> {
  const sums: BotRun["reported"] = { total: {}, days: {}, hours: {}, posts: {}, views: {} };
  const add = (to: Counts, rows: Row[]) => {
    for (const row of rows) {
      for (const kind of kinds) if (row[kind] > 0) to[kind] = (to[kind] ?? 0) + row[kind];
    }
  };
  const groups = { total: [], days: ["day"], hours: ["hour", "post"], posts: ["post"] } as const;
  for (const { person, account } of brands) {
    const social = (person.client as unknown as SupabaseClient).schema("social" as never);
    for (const [name, group_by] of Object.entries(groups)) {
      const args = { account_id: account, group_by, timezone: name === "days" ? "Asia/Kathmandu" : "UTC" };
      add(
        sums[name as keyof typeof groups],
        must(await social.rpc("metrics_report" as never, args as never)),
      );
    }
    add(sums.views, must(await social.from("account_metrics_daily").select("*").eq("account_id", account)));
  }
  return sums;
}

const kinds = ["comment_received", "keyword_matched", "private_reply_sent", "private_reply_failed"].concat(
  ["conversation_started", "message_received", "message_sent", "send_failed", "photo_requested"],
  ["photo_received", "photo_rejected", "tryon_requested", "tryon_refused", "tryon_completed", "tryon_failed"],
  ["result_sent", "promo_sent", "result_reaction", "opted_out", "opted_in", "human_takeover"],
  ["human_handback", "conversation_ended", "order_attributed", "order_refunded"],
);
