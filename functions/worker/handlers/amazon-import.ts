import { z } from "zod";
import {
  type AmazonClient,
  type AmazonClientOptions,
  AmazonError,
  amazonHost,
  createAmazonClient,
} from "../../_shared/amazon.ts";
import type { Database } from "../../_shared/db.ts";
import type { Vault } from "../../_shared/encryption.ts";
import { type Account, findAccount, isReplaced, noteHealth, openSecret } from "../../_shared/sql/accounts.ts";
import {
  findAmazonImport,
  finishAmazonImport,
  storeAmazonPage,
  storeAmazonStock,
} from "../../_shared/sql/amazon.ts";
import type { Json } from "../../_shared/sql/queue.ts";
import { beginning, type Reading, readPage, type Seller } from "../amazon/listings.ts";
import { readStockPage } from "../amazon/stock.ts";
import { completed, type Handler, type JobContext, JobError, waiting } from "../job.ts";
import { refusedToken } from "../refused-token.ts";

export interface AmazonDeps {
  vault: Vault | undefined;
  /** In place of Amazon's own hosts, such as a stand-in. */
  amazonUrl?: string | undefined;
  fetch?: typeof fetch;
  amazonPause?: AmazonClientOptions["pause"];
}

const payload = z.object({
  batch_id: z.uuid(),
  account_id: z.uuid(),
  since: z.string().nullable(),
});

/** How long one attempt reads before it lets others work; the job then goes on from its checkpoint. */
const longestMs = 45_000;

/**
 * commerce.amazon_import: reads a seller's listings, with what the catalog knows of them and what is in stock, into imported products. Each
 * page is written and checkpointed before the next is asked for; a page that is read twice changes nothing.
 */
export function importAmazon(deps: AmazonDeps, longest = longestMs): Handler {
  return async (job, context) => {
    const { db, now, signal } = context;
    const { batch_id, account_id, since } = payload.parse(job.payload);
    const batch = await findAmazonImport(db, batch_id, account_id);
    const account = await findAccount(db, account_id);
    if (!batch || !account) throw new JobError("unknown_import", "The import is gone.", { retry: false });
    if (batch.status !== "importing") return completed({ status: batch.status });
    const { vault } = deps;
    if (!vault) throw new JobError("not_configured", "There are no keys for tokens.", { retryIn: 600 });
    const accessToken =
      account.status === "disconnected" ? null : await openSecret(db, vault, account, "access_token");
    if (accessToken === null) {
      throw new JobError("account_not_connected", "The seller's account has been disconnected.", {
        retry: false,
      });
    }
    const client = createAmazonClient({
      baseUrl: deps.amazonUrl ?? amazonHost(batch.region ?? "us-east-1"),
      accessToken,
      signal,
      now,
      ...(deps.fetch && { fetch: deps.fetch }),
      ...(deps.amazonPause && { pause: deps.amazonPause }),
    });
    const seller = {
      sellerId: account.external_account_id,
      marketplaceId: batch.marketplace_id ?? "ATVPDKIKX0DER",
    };
    const stopAt = now() + longest;
    let reading: Reading = isReading(job.checkpoint) ? job.checkpoint : beginning(since);
    // Amazon's place in a list of stock is good for thirty seconds only.
    if (reading.stock) reading = { ...reading, stock: { token: null } };
    const from = { db, client, seller, batchId: batch_id, since };
    for (;;) {
      const step = await takePage(from, reading).catch((error: unknown) => {
        // The usage plan is the seller's: nobody else has to wait, and no attempt has failed.
        if (error instanceof AmazonError && error.fault === "throttled") return error;
        const replaced = () => isReplaced(db, vault, account, "access_token", accessToken);
        return blame(error, account, context, replaced);
      });
      if (step instanceof AmazonError) {
        return waiting({ poll_in: step.retryIn ?? 5, checkpoint: { ...reading } });
      }
      if (!step) return completed({ status: "ended" });
      reading = step.reading;
      if (step.isLast) break;
      const held = await context.checkpoint({
        checkpoint: { ...reading },
        progress: percentOf(reading),
        stage: reading.stock ? "stock" : "listings",
      });
      if (!held) return completed({ status: "ended" });
      if (now() >= stopAt) return waiting({ poll_in: 0, checkpoint: { ...reading } });
    }
    await finishAmazonImport(db, batch_id, account_id, since === null);
    await noteHealth(db, account, null);
    return completed({ listings: reading.row, catalog: !reading.bare });
  };
}

interface Source {
  db: Database;
  client: AmazonClient;
  seller: Seller;
  batchId: string;
  since: string | null;
}

/** Reads a page and writes it; null: the import has been ended. */
async function takePage(
  source: Source,
  from: Reading,
): Promise<{ reading: Reading; isLast: boolean } | null> {
  const { db, client, seller, batchId, since } = source;
  if (from.stock && since !== null) {
    const { stock, reading } = await readStockPage(client, seller, from, since);
    return (await storeAmazonStock(db, batchId, stock))
      ? { reading: reading ?? from, isLast: reading === null }
      : null;
  }
  const { reading, isLast, products, errors } = await readPage(client, seller, from);
  const { valid, invalid } = reading;
  const live = await storeAmazonPage(db, batchId, {
    rows: products as unknown as Json[],
    errors: errors as unknown as Json[],
    valid,
    invalid,
    percent: percentOf(reading),
  });
  if (!live) return null;
  // A full import has asked for the stock of all; listings do not change with what Amazon's warehouses hold.
  if (!isLast || since === null || reading.blind) return { reading, isLast };
  return { reading: { ...reading, stock: { token: null } }, isLast: false };
}

const percentOf = ({ row, total }: Reading) =>
  Math.min(99, Math.floor((row / Math.max(total, row, 1)) * 100));

function isReading(checkpoint: unknown): checkpoint is Reading {
  return typeof checkpoint === "object" && checkpoint !== null && "inSearch" in checkpoint;
}

/** What Amazon refuses becomes the job's error, and the account's where it is to blame. */
async function blame(
  error: unknown,
  account: Account,
  context: JobContext,
  isReplaced: () => Promise<boolean>,
): Promise<never> {
  if (!(error instanceof AmazonError)) throw error;
  const { fault, message, retryIn } = error;
  const more = { cause: error, ...(retryIn !== undefined && { retryIn }) };
  switch (fault) {
    case "unavailable":
      throw new JobError("provider_unavailable", message, { ...more, provider: "failed" });
    case "unauthorized":
      throw (
        (await refusedToken(context, { account, isReplaced }, message, { withinMs: 60_000, retryIn: 60 })) ??
        new JobError("account_expired", message, { retry: false, cause: error })
      );
    case "forbidden":
      await noteHealth(context.db, account, { status: "error", message });
      throw new JobError("access_restricted", message, { retry: false, cause: error });
    default:
      throw new JobError("amazon_refused", message, { retry: false, cause: error });
  }
}
