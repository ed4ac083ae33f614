// Our apps at providers that connect accounts by OAuth.

import { z } from "zod";

/** OAUTH_CLIENTS: {provider: {client_id, client_secret, application_id?, marketplace_id?, region?, urls?}}. */
export const oauthClients = z.record(
  z.string(),
  z.object({
    client_id: z.string().min(1),
    client_secret: z.string().min(1),
    application_id: z.string().min(1).optional(),
    marketplace_id: z.string().optional(),
    region: z.string().optional(),
    /** Other addresses than the provider's own, such as a stand-in's. */
    urls: z
      .partialRecord(z.enum(["authorizeUrl", "tokenUrl", "identityUrl", "graphUrl"]), z.string())
      .optional(),
  }),
);
export type OAuthClients = z.infer<typeof oauthClients>;
