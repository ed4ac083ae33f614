import { describe, expect, test } from "vitest";
import { findAccount, noteHealth, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { storeTokens } from "../../functions/_shared/sql/oauth.ts";
import { sealTokens } from "../../functions/oauth/tokens.ts";
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

  const ends = (id: string, within: string) =>
    testDb.query(
      `update integrations.connected_accounts set token_expires_at = now() + $2::interval, connected_at = '2026-01-01'
        where id = $1`,
      [id, within],
    );
  const due = async (id: string) => {
    await testDb.call("private.refresh_due_tokens");
    const [row] = await testDb.query(
      `select count(*)::int as n from ops.jobs
        where kind = 'integrations.refresh_token' and payload ->> 'account_id' = $1`,
      [id],
    );
    return row!.n as number;
  };

  test("of weeks is tried once a day until it works, by another job each", async () => {
    const id = await connect();
    await testDb.setClock("2026-03-01T00:00:00Z");
    await testDb.query(
      `update integrations.connected_accounts set token_expires_at = '2026-03-07T12:00:00Z',
        connected_at = '2026-01-06T00:00:00Z' where id = $1`,
      [id],
    );
    const jobs: number[] = [];
    for (let day = 0; day < 7; day++) {
      jobs.push(await due(id), await due(id));
      await testDb.advanceClock("1 day");
    }
    expect(jobs).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
    await testDb.setClock(null);
  });

  test("and is renewed by two at once is renewed: who comes second does not expire the account", async () => {
    const id = await connect();
    await ends(id, "5 minutes");
    const account = (await findAccount(db, id))!;
    const used = (await openSecret(db, vault, account, "refresh_token"))!;
    const provider = providers.get("shopify")!;
    let first = true;
    const slow = new Map(providers).set("shopify", {
      ...provider,
      refresh: async (token, name) => {
        // The other one is done between this one's reading of the token and its use.
        if (first) {
          first = false;
          await work();
        }
        return provider.refresh!(token, name);
      },
    });
    await due(id);
    await testDb.call("ops.enqueue_job", {
      kind: "integrations.refresh_token",
      payload: { account_id: id },
      workspace_id: account.workspace_id,
    });
    await testDb.query("delete from ops.live_jobs where kind <> 'integrations.refresh_token'");
    const second = refreshToken({ vault, oauth: slow });
    await workOnce({ db, handlers: { "integrations.refresh_token": second }, log });
    const after = (await findAccount(db, id))!;
    expect(after.status).toBe("active");
    const kept = await openSecret(db, vault, after, "refresh_token");
    expect(kept).not.toBe(used);
    expect(Object.keys(data.shops[shop]!.refreshTokens)).toEqual([kept]);
  });

  test("renewed for a connection that has been made anew since is not put over the new one's", async () => {
    const id = await connect();
    const account = (await findAccount(db, id))!;
    await connect();
    const again = (await findAccount(db, id))!;
    const [fresh] = [await openSecret(db, vault, again, "access_token")];
    const sealed = await sealTokens(vault, account, { accessToken: "old", scopes: [] }, Date.now());
    expect(await storeTokens(db, account, sealed, null)).toBe(false);
    expect(await openSecret(db, vault, again, "access_token")).toBe(fresh);
    expect(await storeTokens(db, again, sealed, null)).toBe(true);
    await noteHealth(db, account, { status: "expired", message: "The old one was refused." });
    expect((await findAccount(db, id))!.status).toBe("active");
    await noteHealth(db, again, { status: "expired", message: "This one was refused." });
    expect((await findAccount(db, id))!.status).toBe("expired");
  });

  test("of an account that another workspace has connected since does not bring it back to life", async () => {
    const id = await connect();
    await testDb.query("update integrations.connected_accounts set status = 'expired' where id = $1", [id]);
    const bob = await testDb.createUser();
    await testDb.service.call("integrations.connect_account", {
      workspace_id: bob.workspaceId,
      user_id: bob.id,
      account: { provider: "shopify", external_account_id: shop },
      secrets: [],
    });
    const account = (await findAccount(db, id))!;
    const sealed = await sealTokens(vault, account, { accessToken: "a", scopes: [] }, Date.now());
    expect(await storeTokens(db, account, sealed, null)).toBe(true);
    expect((await findAccount(db, id))!.status).toBe("expired");
    await testDb.query("update integrations.connected_accounts set status = 'error' where id = $1", [id]);
    await testDb.service.call("integrations.note_account_health", { account_id: id });
    expect((await findAccount(db, id))!.status).toBe("error");
  });
});
