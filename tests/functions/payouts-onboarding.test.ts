import { describe, expect, test } from "vitest";
import { errorEnvelope } from "../../types/contracts.ts";
import { onboardingAnswer } from "../../types/contracts-payouts.ts";
import { connect, deliverAll, onboarding, stripe, testDb, work } from "./payouts-stage.ts";

describe("the onboarding", () => {
  test("makes one account, whose capabilities come by its events, and a new page each time", async () => {
    const { id, workspaceId } = await testDb.createUser();
    const before = Object.keys(connect.accounts).length;
    const ask = async () =>
      onboardingAnswer.parse(await (await onboarding(id, { workspace_id: workspaceId })).json());
    const answers = await Promise.all([ask(), ask(), ask()]);
    expect(new Set(answers.map(({ payout_account_id }) => payout_account_id)).size).toBe(1);
    expect(Object.keys(connect.accounts)).toHaveLength(before + 1);
    expect(answers[0]!.url).toMatch(/^https:\/\/stripe\.test\/connect\/onboarding\/acct_/);
    const accountId = answers[0]!.url.split("/").at(-1)!;
    expect(connect.accounts[accountId]).toMatchObject({
      country: "US",
      capabilities: { transfers: "inactive" },
      settings: { payouts: { schedule: { interval: "manual" } } },
    });
    const status = async () =>
      (
        await testDb.query("select status from billing.payout_accounts where workspace_id = $1", [
          workspaceId,
        ])
      )[0]!.status;
    expect(await status()).toBe("pending");
    await stripe.page(`/connect/onboarding/${accountId}`, { outcome: "incomplete" });
    await deliverAll();
    expect(await status()).toBe("restricted");
    await stripe.page(`/connect/onboarding/${accountId}`, { outcome: "complete" });
    stripe.events.splice(0);
    // The event is lost; what the account may do is asked when the next one comes.
    await testDb.service.call("ops.enqueue_job", {
      kind: "billing.refresh_payout_account",
      payload: { payout_account_id: answers[0]!.payout_account_id },
      workspace_id: workspaceId,
    });
    await work();
    expect(await status()).toBe("active");
  });

  test("is for admins of the workspace and returns to our own pages only", async () => {
    const { id, workspaceId } = await testDb.createUser();
    const stranger = await testDb.createUser();
    const body = { workspace_id: workspaceId };
    const codeOf = async (response: Promise<Response>) => {
      const { status, ...rest } = await response.then(async (r) => ({
        status: r.status,
        ...errorEnvelope.parse(await r.json()),
      }));
      return [status, rest.error.code];
    };
    expect(await codeOf(onboarding(null, body))).toEqual([401, "not_signed_in"]);
    expect(await codeOf(onboarding(stranger.id, body))).toEqual([404, "unknown_workspace"]);
    expect(await codeOf(onboarding(id, { ...body, return_url: "https://evil.test/" }))).toEqual([
      400,
      "invalid_argument",
    ]);
    expect(await codeOf(onboarding(id, { ...body, country: "USA" }))).toEqual([400, "invalid_argument"]);
    stripe.deps.control.add({ fail: "submit", http_status: 500 });
    expect(await codeOf(onboarding(id, body))).toEqual([502, "payment_provider_unavailable"]);
    stripe.deps.control.reset();
    expect((await onboarding(id, body)).status).toBe(200);
  });
});
