import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type JsonWebKey,
  randomUUID,
  sign,
} from "node:crypto";

/** The ED25519 key pair that signs webhooks; kept, so that receivers' cached key sets stay right. */
export function newKey(): JsonWebKey & { kid: string } {
  const { privateKey } = generateKeyPairSync("ed25519");
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID() };
}

/** The public half as a JWKS document. */
export function keySet({ kty, crv, x, kid }: JsonWebKey & { kid: string }) {
  return { keys: [{ kty, crv, x, kid, use: "sig", alg: "EdDSA" }] };
}

/** The four headers over: request id, user id, timestamp, hex of the body's SHA-256, one a line. */
export function signedHeaders(
  key: JsonWebKey,
  requestId: string,
  userId: string,
  body: string,
  timestamp = Math.floor(Date.now() / 1000),
): Record<string, string> {
  const digest = createHash("sha256").update(body).digest("hex");
  const message = [requestId, userId, String(timestamp), digest].join("\n");
  const signature = sign(null, Buffer.from(message), createPrivateKey({ key, format: "jwk" }));
  return {
    "x-fal-webhook-request-id": requestId,
    "x-fal-webhook-user-id": userId,
    "x-fal-webhook-timestamp": String(timestamp),
    "x-fal-webhook-signature": signature.toString("hex"),
  };
}
