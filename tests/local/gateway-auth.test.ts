// Who may pass the gateway, and who is who: keys, tokens, accounts.

import { createClient } from "@supabase/supabase-js";
import { SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { db, get, nobody, options, password, service, signUp, stack } from "./gateway-stack.ts";

describe("keys and tokens", () => {
  test("without a key, with an unknown one and with a broken token the answer is 401", async () => {
    const apikey = stack.publishableKey;
    const cases: [Record<string, string>, string][] = [
      [{}, "No API key found in request"],
      [{ apikey: "sb_publishable_unknown" }, "Invalid API key"],
      [{ apikey: "not.a.key" }, "Invalid API key"],
      [{ apikey, authorization: "Bearer nonsense" }, "Invalid JWT"],
      [{ apikey, authorization: "Bearer a.b.c" }, "Invalid JWT"],
    ];
    for (const [headers, message] of cases) {
      const response = await get("/rest/v1/notes", headers);
      expect(response.status).toBe(401);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      expect(await response.json()).toMatchObject({ message });
    }
  });

  test("a token somebody else signed, whatever role it names, is refused", async () => {
    const key = new TextEncoder().encode("another secret, long enough to sign with");
    for (const role of ["authenticated", "service_role", "postgres"]) {
      const forged = await new SignJWT({ role, sub: crypto.randomUUID() })
        .setProtectedHeader({ alg: "HS256" })
        .setExpirationTime("1h")
        .sign(key);
      const bearer = { apikey: stack.publishableKey, authorization: `Bearer ${forged}` };
      expect((await get("/rest/v1/notes", bearer)).status).toBe(401);
      expect((await get("/rest/v1/notes", { apikey: forged })).status).toBe(401);
      expect((await get("/auth/v1/admin/users", bearer)).status).toBe(401);
    }
  });

  test("browsers are told what they may send", async () => {
    const response = await fetch(`${stack.apiUrl}/rest/v1/notes`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "apikey,authorization,x-client-info",
      },
    });
    expect(response.status).toBe(204);
    expect(response.headers.get("access-control-allow-headers")).toContain("apikey");
  });

  test("an unknown address is 404", async () => {
    expect((await get("/nowhere")).status).toBe(404);
    expect(await (await get("/health")).json()).toEqual({ status: "ok" });
  });
});

describe("auth", () => {
  test("signs up confirmed, signs in, refreshes, signs out", async () => {
    const { client, id } = await signUp("person@example.com");
    const row = await db.query(
      "select raw_user_meta_data ->> 'full_name' as name, email_confirmed_at from auth.users where id = $1",
      [id],
    );
    expect(row.rows[0]).toEqual({ name: "A B", email_confirmed_at: expect.any(Date) });
    expect((await client.auth.refreshSession()).error).toBeNull();
    expect((await client.auth.signOut()).error).toBeNull();
    expect(
      (await client.auth.signInWithPassword({ email: "person@example.com", password })).error,
    ).toBeNull();
    const wrong = await client.auth.signInWithPassword({ email: "person@example.com", password: "guess" });
    expect(wrong.error?.code).toBe("invalid_credentials");
    expect((await nobody.auth.signUp({ email: "person@example.com", password })).error?.code).toBe(
      "user_already_exists",
    );
    expect((await nobody.auth.signUp({ email: "weak@example.com", password: "short" })).error?.code).toBe(
      "weak_password",
    );
  });

  test("lets the service make, read, change, list and delete users", async () => {
    const { admin } = service.auth;
    const made = await admin.createUser({
      email: "Made@example.com",
      password,
      email_confirm: true,
      user_metadata: { colour: "blue", size: 1 },
      app_metadata: { staff: true },
    });
    expect(made.error).toBeNull();
    const user = made.data.user;
    expect(user).toMatchObject({
      email: "made@example.com",
      app_metadata: { provider: "email", staff: true },
    });
    const id = user?.id ?? "";
    expect((await admin.createUser({ email: "made@example.com" })).error?.code).toBe("email_exists");
    expect((await nobody.auth.signInWithPassword({ email: "made@example.com", password })).error).toBeNull();
    const changed = await admin.updateUserById(id, {
      password: "another long one",
      user_metadata: { size: null },
    });
    expect(changed.data.user?.user_metadata).toEqual({ colour: "blue", email_verified: true });
    const again = { email: "made@example.com", password: "another long one" };
    expect((await nobody.auth.signInWithPassword(again)).error).toBeNull();
    for (const name of ["one", "two"]) await signUp(`${name}@example.com`);
    const listed = await admin.listUsers({ page: 1, perPage: 2 });
    expect(listed.data.users).toHaveLength(2);
    expect(listed.data).toMatchObject({ nextPage: 2, total: expect.any(Number) });
    expect((await admin.getUserById(id)).data.user?.identities?.[0]?.provider).toBe("email");
    expect((await admin.deleteUser(id)).error).toBeNull();
    expect((await admin.getUserById(id)).error?.code).toBe("user_not_found");
    expect((await admin.createUser({ email: "no address" })).error?.code).toBe("validation_failed");
  });

  test("gives tokens that say what the service and the person have said, anew with each refresh", async () => {
    const { client, id } = await signUp("claims@example.com");
    const claims = async () => (await client.rpc("claims")).data;
    expect(await claims()).toMatchObject({
      sub: id,
      role: "authenticated",
      app_metadata: { provider: "email", providers: ["email"] },
      user_metadata: { full_name: "A B" },
      is_anonymous: false,
      aal: "aal1",
    });
    // What people say of themselves is not what the service says of them.
    await client.auth.updateUser({ data: { staff: true } });
    await client.auth.refreshSession();
    expect(await claims()).toMatchObject({ user_metadata: { staff: true } });
    expect((await claims()).app_metadata).not.toHaveProperty("staff");
    await service.auth.admin.updateUserById(id, { app_metadata: { staff: true } });
    expect((await claims()).app_metadata).not.toHaveProperty("staff");
    const { data } = await client.auth.refreshSession();
    expect(data.user?.id).toBe(id);
    expect((await claims()).app_metadata).toMatchObject({ staff: true });
    expect((await client.auth.getUser()).data.user?.app_metadata).toMatchObject({ staff: true });
    const again = createClient(stack.apiUrl, stack.publishableKey, options);
    expect((await again.auth.signInWithPassword({ email: "claims@example.com", password })).error).toBeNull();
    expect((await again.rpc("claims")).data.app_metadata).toMatchObject({ staff: true });
  });

  test("lets nobody else", async () => {
    const { client } = await signUp("curious@example.com");
    for (const who of [nobody, client]) {
      expect((await who.auth.admin.listUsers()).error?.code).toBe("not_admin");
      expect((await who.auth.admin.createUser({ email: "x@example.com" })).error?.code).toBe("not_admin");
    }
  });
});
