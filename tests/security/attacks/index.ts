import { ai, ownAi } from "./ai.ts";
import type { Attack, Scene } from "./attack.ts";
import { billing, ownBilling } from "./billing.ts";
import { commerce, ownCommerce } from "./commerce.ts";
import { identity, ownIdentity } from "./identity.ts";
import { integrations, ownIntegrations } from "./integrations.ts";
import { messaging, ownMessaging } from "./messaging.ts";
import { ownSocial, social } from "./social.ts";
import { staff } from "./staff.ts";
import { ownStudio, studio } from "./studio.ts";

export const attacks: Attack[] = [
  ...identity,
  ...billing,
  ...integrations,
  ...studio,
  ...commerce,
  ...social,
  ...ai,
  ...messaging,
  ...staff,
];

/** Gives the victim the rows that the attacks are about. */
export async function prepare(scene: Scene): Promise<void> {
  await ownIdentity(scene);
  await ownBilling(scene);
  await ownIntegrations(scene);
  await ownStudio(scene);
  await ownCommerce(scene);
  await Promise.all([ownSocial(scene), ownAi(scene), ownMessaging(scene)]);
}
