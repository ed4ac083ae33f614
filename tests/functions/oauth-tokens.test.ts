import { describe, expect, test } from "vitest";
import { findAccount, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { refreshToken } from "../../functions/worker/handlers/refresh-token.ts";
import { workOnce } from "./harness.ts";
import { audit, connect, data, db, log, providers, shop, testDb, vault } from "./oauth-stage.ts";

describe("a token that ends", () => {
  const handlers = { "integrations.refresh_token": refreshToken({ vault, oauth: providers }) };
  async function work(): Promise<void> {
    await testDb.query("delete from ops.live_jobs where kind <> 'integrations.refresh_token'");
    await workOnce({ db, handlers, log });
  }

  test("is renewed once before it does, with the refresh token that changes at each use", async () => {
    const id = await connect();
    await testDb.query(
      "update integrations.connected_accounts set token_expires_at = now() + interval '5 minutes' where id = $1",
      [id],
    );
    const before = (await findAccount(db, id))!;
    const old = await openSecret(db, vault, before, "refresh_token");
    await testDb.call("private.refresh_due_tokens");
    await testDb.call("private.refresh_due_tokens");
    expect(
      await testDb.query(
        "select count(*)::int as jobs from ops.jobs where kind = 'integrations.refresh_token'",
      ),
    ).toEqual([{ jobs: 1 }]);
    await work();
    const after = (await findAccount(db, id))!;
    expect(after.token_expires_at!.getTime()).toBeGreaterThan(Date.now() + 50 * 60_000);
    const fresh = await openSecret(db, vault, after, "refresh_token");
    expect(fresh).not.toBe(old);
    expect(Object.keys(data.shops[shop]!.refreshTokens)).toEqual([fresh]);
    expect((await audit()).at(-1)).toMatchObject({ event_type: "token_refreshed" });
  });

  test("and cannot be renewed expires the account, where its people see it", async () => {
    const id = await connect();
    data.shops[shop]!.refreshTokens = {};
    await testDb.query("update integrations.connected_accounts set token_expires_at = now() where id = $1", [
      id,
    ]);
    await testDb.call("private.refresh_due_tokens");
    await work();
    expect((await findAccount(db, id))!.status).toBe("expired");
    expect((await audit()).slice(-2)).toMatchObject([
      { event_type: "account_expired", success: false },
      { event_type: "token_refresh_failed", success: false },
    ]);
    await testDb.call("private.refresh_due_tokens");
    expect(
      await testDb.query(
        "select count(*)::int as jobs from ops.jobs where payload ->> 'account_id' = $1 and state = 'queued'",
        [id],
      ),
    ).toEqual([{ jobs: 0 }]);
  });
});
