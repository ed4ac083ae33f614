// Every sender there is, with its secrets. One that is not configured is not there.

import type { Env } from "../../_shared/env.ts";
import { falWebhooks } from "./fal.ts";
import { createKeySet } from "./jwks.ts";
import { mediamtxWebhooks } from "./mediamtx.ts";
import { metaWebhooks } from "./meta.ts";
import { nginxRtmpWebhooks } from "./nginx-rtmp.ts";
import { printfulWebhooks } from "./printful.ts";
import { prodigiWebhooks } from "./prodigi.ts";
import type { SubscribedProvider, WebhookProvider } from "./provider.ts";
import { razorpayWebhooks } from "./razorpay.ts";
import { replicateWebhooks } from "./replicate.ts";
import { resendWebhooks } from "./resend.ts";
import { shopifyWebhooks } from "./shopify.ts";
import { srsWebhooks } from "./srs.ts";
import { stripeWebhooks } from "./stripe.ts";
import { twitchWebhooks } from "./twitch.ts";
import { youtubeWebhooks } from "./youtube.ts";

export const providerVariables = [
  "STRIPE_WEBHOOK_SECRETS",
  "FAL_JWKS_URL",
  "FAL_USER_IDS",
  "RAZORPAY_WEBHOOK_SECRETS",
  "SHOPIFY_WEBHOOK_SECRETS",
  "META_APP_SECRETS",
  "META_VERIFY_TOKEN",
  "REPLICATE_WEBHOOK_SECRETS",
  "RESEND_WEBHOOK_SECRETS",
] as const;

/** Senders whose secrets are in the environment. Throws when one is configured by half. */
export function configuredProviders(env: Env<(typeof providerVariables)[number]>): WebhookProvider[] {
  const { META_APP_SECRETS: metaSecrets, META_VERIFY_TOKEN: metaToken } = env;
  if (!metaSecrets !== !metaToken) {
    throw new Error("META_APP_SECRETS and META_VERIFY_TOKEN are set together or not at all.");
  }
  return [
    stripeWebhooks(env.STRIPE_WEBHOOK_SECRETS),
    falWebhooks(createKeySet({ url: env.FAL_JWKS_URL }), env.FAL_USER_IDS),
    env.RAZORPAY_WEBHOOK_SECRETS && razorpayWebhooks(env.RAZORPAY_WEBHOOK_SECRETS),
    env.SHOPIFY_WEBHOOK_SECRETS && shopifyWebhooks(env.SHOPIFY_WEBHOOK_SECRETS),
    metaSecrets && metaToken && metaWebhooks(metaSecrets, metaToken),
    env.REPLICATE_WEBHOOK_SECRETS && replicateWebhooks(env.REPLICATE_WEBHOOK_SECRETS),
    env.RESEND_WEBHOOK_SECRETS && resendWebhooks(env.RESEND_WEBHOOK_SECRETS),
  ].filter((provider) => typeof provider === "object");
}

/** Senders with an address and secrets for each subscription. */
export const subscribedProviders: readonly SubscribedProvider[] = [
  twitchWebhooks,
  youtubeWebhooks,
  prodigiWebhooks,
  printfulWebhooks,
  mediamtxWebhooks,
  nginxRtmpWebhooks,
  srsWebhooks,
];
