// Every kind of job there is, and what works on it. Adding one: a file in this folder, its line here, and its row
// in ops.job_kinds (a migration).

import type Stripe from "stripe";
import type { SafeFetch } from "../../_shared/safe-fetch.ts";
import type { Handlers } from "../job.ts";
import type { ShopDeps } from "../shopify/shop.ts";
import { type AmazonDeps, importAmazon } from "./amazon-import.ts";
import { type AnalysisDeps, analyzeGarment } from "./analyze-garment.ts";
import { cancelAtProvider } from "./cancel-at-provider.ts";
import { catalogHandlers } from "./catalog.ts";
import { type CreationDeps, makeCreation } from "./creation.ts";
import { importCsv } from "./csv-import.ts";
import { deliverWebhook } from "./deliver-webhook.ts";
import { erasePerson } from "./erase-person.ts";
import { extendTrial } from "./extend-trial.ts";
import { type KnowledgeDeps, knowledgeHandlers } from "./knowledge.ts";
import type { TrainingDeps } from "./lora-training.ts";
import { type MailDeps, mailHandlers } from "./mail.ts";
import { meterErrors } from "./meter-errors.ts";
import { type PaymentDeps, paymentHandlers } from "./payments.ts";
import { payoutHandlers } from "./payouts.ts";
import { personaHandlers } from "./personas.ts";
import { pictureHandlers } from "./pictures.ts";
import { type RefreshDeps, refreshToken } from "./refresh-token.ts";
import { fileHandlers } from "./remove-files.ts";
import { reportUsage } from "./report-usage.ts";
import { shopifyHandlers } from "./shopify.ts";
import { type SocialDeps, socialHandlers } from "./social.ts";
import { subscriptionHandlers } from "./subscriptions.ts";
import { type SystemMailDeps, systemMailHandlers } from "./system-mail.ts";
import { applyEvent } from "./webhook-stripe.ts";
import { unhandledWebhooks } from "./webhook-unhandled.ts";

export function createHandlers(
  deps: CreationDeps &
    AnalysisDeps &
    TrainingDeps &
    PaymentDeps &
    KnowledgeDeps &
    SocialDeps &
    AmazonDeps &
    MailDeps &
    SystemMailDeps & { stripe: Stripe; safeFetch: SafeFetch } & ShopDeps &
    RefreshDeps,
): Handlers {
  return {
    ...unhandledWebhooks,
    ...payoutHandlers(deps.stripe),
    ...subscriptionHandlers(deps.stripe),
    ...shopifyHandlers(deps),
    ...paymentHandlers(deps),
    ...pictureHandlers(deps),
    ...personaHandlers(deps),
    ...fileHandlers(deps),
    ...catalogHandlers(deps),
    ...knowledgeHandlers(deps),
    ...socialHandlers(deps),
    ...mailHandlers(deps),
    ...systemMailHandlers(deps),
    "webhook.stripe": applyEvent,
    "billing.extend_trial": extendTrial(deps.stripe),
    "billing.meter_errors": meterErrors(deps.stripe),
    "billing.report_usage": reportUsage(deps.stripe),
    "integrations.erase_person": erasePerson(deps),
    "integrations.refresh_token": refreshToken(deps),
    "commerce.amazon_import": importAmazon(deps),
    "commerce.csv_import": importCsv(deps),
    "integrations.deliver_webhook": deliverWebhook(deps.safeFetch),
    "studio.analyze_garment": analyzeGarment(deps),
    "studio.creation": makeCreation(deps),
    "studio.cancel_at_provider": cancelAtProvider(deps.providers),
  };
}
