import { createDecipheriv } from "node:crypto";
import { expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { readEnv } from "../../functions/_shared/env.ts";

const key = (byte: number) => new Uint8Array(32).fill(byte);
const vault = createVault({ k2: key(2), k1: key(1) });

test("a sealed secret opens in its place, with all its characters", async () => {
  for (const secret of ["", "whsec_abc", "ключ 🔑"]) {
    expect(await vault.open(await vault.seal(secret, "row-1"), "row-1")).toBe(secret);
  }
});

test("it opens nowhere else, and not when a bit has changed", async () => {
  const sealed = await vault.seal("secret", "row-1");
  await expect(vault.open(sealed, "row-2")).rejects.toThrow();
  for (const part of ["nonce", "ciphertext"] as const) {
    const changed = new Uint8Array(sealed[part]);
    changed[0]! ^= 1;
    await expect(vault.open({ ...sealed, [part]: changed }, "row-1")).rejects.toThrow();
  }
  await expect(vault.open({ ...sealed, keyId: "k1" }, "row-1")).rejects.toThrow();
});

test("it is AES-256-GCM with its tag at the end, as others can read", async () => {
  const { keyId, nonce, ciphertext } = await vault.seal("secret", "row-1");
  expect([keyId, nonce.length, ciphertext.length]).toEqual(["k2", 12, 6 + 16]);
  const decipher = createDecipheriv("aes-256-gcm", key(2), nonce).setAAD(Buffer.from("row-1"));
  decipher.setAuthTag(ciphertext.slice(-16));
  const text = Buffer.concat([decipher.update(ciphertext.slice(0, -16)), decipher.final()]).toString();
  expect(text).toBe("secret");
});

test("the same secret never looks the same", async () => {
  const sealed = await Promise.all(Array.from({ length: 50 }, () => vault.seal("secret", "row-1")));
  expect(new Set(sealed.map(({ nonce }) => Buffer.from(nonce).toString("hex"))).size).toBe(50);
  expect(new Set(sealed.map(({ ciphertext }) => Buffer.from(ciphertext).toString("hex"))).size).toBe(50);
});

test("keys are exchanged: the first encrypts, all decrypt, one that is gone is named", async () => {
  const old = await createVault({ k1: key(1) }).seal("secret", "row-1");
  expect(await vault.open(old, "row-1")).toBe("secret");
  const without = createVault({ k2: key(2) });
  await expect(without.open(old, "row-1")).rejects.toThrow("The encryption key k1 is not among");
});

test("a vault needs keys of 32 bytes", () => {
  expect(() => createVault({})).toThrow("no encryption key");
  expect(() => createVault({ k1: new Uint8Array(31) })).toThrow("k1 has not 32 bytes");
});

test("the environment gives the keys in their order, or says that they are wrong", () => {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
  const json = JSON.stringify({ new1: base64(key(9)), old1: base64(key(8)) });
  const { ENCRYPTION_KEYS: keys } = readEnv(["ENCRYPTION_KEYS"], { ENCRYPTION_KEYS: json });
  expect(Object.entries(keys!)).toEqual([
    ["new1", key(9)],
    ["old1", key(8)],
  ]);
  expect(readEnv(["ENCRYPTION_KEYS"], {}).ENCRYPTION_KEYS).toBeUndefined();
  for (const wrong of [
    "{}",
    "key",
    '{"k":"AAAA"}',
    `{"1":"${base64(key(1))}"}`,
    `{"k":"${base64(key(1))}","l":"no base64!"}`,
  ]) {
    expect(() => readEnv(["ENCRYPTION_KEYS"], { ENCRYPTION_KEYS: wrong })).toThrow(
      "ENCRYPTION_KEYS is not valid",
    );
  }
});
