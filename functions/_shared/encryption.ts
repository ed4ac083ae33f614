// Secrets that the database keeps but cannot read: AES-256-GCM, the tag at the end of the ciphertext, the id of the
// key beside it. Keys come from ENCRYPTION_KEYS; the first encrypts, all decrypt, so that keys can be exchanged.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export interface Sealed {
  keyId: string;
  nonce: Uint8Array<ArrayBuffer>;
  ciphertext: Uint8Array<ArrayBuffer>;
}

export interface Vault {
  /** `context` names the place of the secret, such as its row: elsewhere it does not open. */
  seal(secret: string, context: string): Promise<Sealed>;
  /** Throws when the key is not known, the context is another, or a bit has changed. */
  open(sealed: Sealed, context: string): Promise<string>;
}

/** Takes the keys as bytes by their ids, 32 each. */
export function createVault(keys: Readonly<Record<string, Uint8Array<ArrayBuffer>>>): Vault {
  const imported = new Map(
    Object.entries(keys).map(([id, bytes]) => {
      if (bytes.length !== 32) throw new Error(`The encryption key ${id} has not 32 bytes.`);
      return [id, crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"])] as const;
    }),
  );
  const [first] = imported;
  if (!first) throw new Error("There is no encryption key.");
  const [current, currentKey] = first;
  return {
    seal: async (secret, context) => {
      const nonce = crypto.getRandomValues(new Uint8Array(12));
      const ciphertext = await crypto.subtle.encrypt(
        { name: "AES-GCM", iv: nonce, additionalData: encoder.encode(context) },
        await currentKey,
        encoder.encode(secret),
      );
      return { keyId: current, nonce, ciphertext: new Uint8Array(ciphertext) };
    },
    open: async ({ keyId, nonce, ciphertext }, context) => {
      const key = imported.get(keyId);
      if (!key) throw new Error(`The encryption key ${keyId} is not among ENCRYPTION_KEYS.`);
      const secret = await crypto.subtle.decrypt(
        { name: "AES-GCM", iv: nonce, additionalData: encoder.encode(context) },
        await key,
        ciphertext,
      );
      return decoder.decode(secret);
    },
  };
}
