// What the routes /billing/payouts/* take and answer.

import { z } from "zod";
import { pageUrl } from "./contracts.ts";

/** Body of `POST /billing/payouts/onboarding`. The country is that of the workspace's bank, ISO 3166, and stays. */
export const onboardingRequest = z.strictObject({
  workspace_id: z.uuid(),
  country: z.string().regex(/^[A-Za-z]{2}$/),
  currency: z
    .string()
    .regex(/^[A-Za-z]{3}$/)
    .default("USD"),
  /** Where the provider sends people when they are done, and where when its page has expired. */
  return_url: pageUrl,
  refresh_url: pageUrl,
});
export type OnboardingRequest = z.infer<typeof onboardingRequest>;

/** `url` is the provider's page; it may be opened once, soon. */
export const onboardingAnswer = z.object({
  payout_account_id: z.uuid(),
  status: z.enum(["new", "pending", "active", "restricted"]),
  url: z.string(),
  expires_at: z.iso.datetime(),
});
export type OnboardingAnswer = z.infer<typeof onboardingAnswer>;
