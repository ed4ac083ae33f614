// Tokens of signed addresses: each for one purpose, one object and a limited time. They carry no role, so none of
// them is good as an access token, and no access token is good as one of them.

import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { jwtKey, type Keys } from "../keys.ts";
import { invalidToken } from "./errors.ts";

type Purpose = "download" | "upload";

const claims = z.object({ url: z.string(), owner: z.string().optional(), upsert: z.boolean().optional() });
export type SignedClaims = z.infer<typeof claims>;

export class Tokens {
  #key: Uint8Array;

  constructor(keys: Keys) {
    this.#key = jwtKey(keys);
  }

  sign(purpose: Purpose, content: SignedClaims, expiresInSeconds: number): Promise<string> {
    return new SignJWT(content)
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setAudience(`storage:${purpose}`)
      .setIssuedAt()
      .setExpirationTime(Math.floor(Date.now() / 1000) + expiresInSeconds)
      .sign(this.#key);
  }

  /** The claims of a token that is valid for this purpose and this object. */
  async verify(purpose: Purpose, token: string | undefined, url: string): Promise<SignedClaims> {
    if (!token) throw invalidToken("The token of the signed address is missing.");
    try {
      const options = { algorithms: ["HS256"], audience: `storage:${purpose}` };
      const { payload } = await jwtVerify(token, this.#key, options);
      const content = claims.parse(payload);
      if (content.url !== url) throw invalidToken("The signed address is for another object.");
      return content;
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw invalidToken('"exp" claim timestamp check failed');
      if (error instanceof errors.JOSEError || error instanceof z.ZodError)
        throw invalidToken("Invalid signature");
      throw error;
    }
  }
}
