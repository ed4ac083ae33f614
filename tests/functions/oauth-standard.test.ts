import { expect, test } from "vitest";
import { configuredOAuth } from "../../functions/oauth/providers/index.ts";

// What each provider is asked, and how its own answers are read: the forms are those of its documentation.

type Asked = { url: string; method: string; headers: Headers; form: Record<string, string> };
const answers: unknown[] = [];
const asked: Asked[] = [];
const fetcher: typeof fetch = async (input, init) => {
  const { url, method, headers } = new Request(input, init);
  const body = typeof init?.body === "string" ? init.body : "";
  asked.push({ url, method, headers, form: Object.fromEntries(new URLSearchParams(body)) });
  return Response.json(answers.shift());
};
const client = { client_id: "id", client_secret: "secret" };
const names = ["youtube", "google_drive", "google_ads", "onedrive", "dropbox", "twitch", "facebook"];
const providers = configuredOAuth(
  Object.fromEntries(names.map((name) => [name, client])),
  undefined,
  fetcher,
);

const google = { sub: "1077", email: "ada@example.com", name: "Ada", picture: "https://g.example/a.png" };
const cases = [
  {
    name: "youtube",
    host: "accounts.google.com",
    offline: { access_type: "offline", prompt: "consent" },
    me: { items: [{ id: "UC1", snippet: { title: "Ada's channel", customUrl: "@ada", thumbnails: {} } }] },
    person: { external_account_id: "UC1", username: "@ada", display_name: "Ada's channel" },
  },
  ...["google_drive", "google_ads"].map((name) => ({
    name,
    host: "accounts.google.com",
    offline: { access_type: "offline", prompt: "consent" },
    me: google,
    person: { external_account_id: "1077", email: "ada@example.com", avatar_url: google.picture },
  })),
  {
    name: "onedrive",
    host: "login.microsoftonline.com",
    offline: { scope: "offline_access User.Read Files.ReadWrite" },
    me: { id: "87d3", displayName: "Ada", mail: null, userPrincipalName: "ada@example.com" },
    person: { external_account_id: "87d3", email: "ada@example.com" },
  },
  {
    name: "dropbox",
    host: "www.dropbox.com",
    offline: { token_access_type: "offline" },
    me: { account_id: "dbid:AAH4", name: { display_name: "Ada" }, email: "ada@example.com" },
    person: { external_account_id: "dbid:AAH4", display_name: "Ada" },
  },
  {
    name: "twitch",
    host: "id.twitch.tv",
    offline: {},
    me: { data: [{ id: "141981764", login: "ada", display_name: "Ada", email: "ada@example.com" }] },
    person: { external_account_id: "141981764", username: "ada" },
  },
];

test.each(cases)("$name is asked in its own words, and says who was connected", async (one) => {
  const { name, host, offline, me, person } = one;
  const provider = providers.get(name)!;
  const request = { state: "state", redirectUri: "https://api.test/callback", account: null, verifier: "v" };
  const url = new URL(await provider.authorizeUrl(request));
  expect(url.host).toBe(host);
  expect(Object.fromEntries(url.searchParams)).toMatchObject({ client_id: "id", state: "state", ...offline });
  expect(url.searchParams.has("code_challenge")).toBe(name !== "twitch");

  asked.length = 0;
  const scope = name === "twitch" ? ["user:read:email", "user:read:chat"] : "one two";
  answers.push(
    { access_token: "a1", refresh_token: "r1", expires_in: 3599, token_type: "bearer", scope },
    me,
  );
  const callback = { ...request, code: "code", query: new URLSearchParams() };
  const tokens = await provider.exchange(callback);
  expect(tokens).toEqual({
    accessToken: "a1",
    refreshToken: "r1",
    expiresIn: 3599,
    scopes: name === "twitch" ? scope : ["one", "two"],
  });
  expect(await provider.identify(tokens, callback)).toMatchObject(person);
  const [exchange, identity] = asked as [Asked, Asked];
  expect(exchange.method).toBe("POST");
  expect(exchange.form).toMatchObject({
    grant_type: "authorization_code",
    code: "code",
    client_secret: "secret",
  });
  expect(exchange.form.code_verifier).toBe(name === "twitch" ? undefined : "v");
  expect(identity.headers.get("authorization")).toBe("Bearer a1");
  expect(identity.headers.get("client-id")).toBe(name === "twitch" ? "id" : null);
  // Dropbox takes a call without arguments by POST, without a body or a type of one.
  expect([identity.method, identity.headers.get("content-type")]).toEqual([
    name === "dropbox" ? "POST" : "GET",
    null,
  ]);

  answers.push({ access_token: "a2", expires_in: 3599 }, { access_token: "a3", refresh_token: "r2" });
  expect(await provider.refresh!("r1", "x")).toMatchObject({ accessToken: "a2", refreshToken: "r1" });
  expect(await provider.refresh!("r1", "x")).toMatchObject({ accessToken: "a3", refreshToken: "r2" });
  expect(asked.at(-1)?.form).toMatchObject({ grant_type: "refresh_token", refresh_token: "r1" });
});

test("facebook's token is exchanged for one that lasts", async () => {
  asked.length = 0;
  const provider = providers.get("facebook")!;
  const request = { state: "state", redirectUri: "https://api.test/callback", account: null, verifier: "v" };
  expect(new URL(await provider.authorizeUrl(request)).searchParams.get("scope")).toContain("ads_read");
  answers.push(
    { access_token: "short", token_type: "bearer", expires_in: 5100 },
    { access_token: "long", token_type: "bearer", expires_in: 5_184_000 },
    { id: "10160", name: "Ada" },
  );
  const callback = { ...request, code: "code", query: new URLSearchParams() };
  const tokens = await provider.exchange(callback);
  expect(tokens).toMatchObject({ accessToken: "long", expiresIn: 5_184_000 });
  expect(await provider.identify(tokens, callback)).toMatchObject({
    external_account_id: "10160",
    display_name: "Ada",
  });
  expect(asked.map(({ url }) => new URL(url).searchParams.get("fb_exchange_token"))).toEqual([
    null,
    "short",
    null,
  ]);
});

test("a grant is ended where it was given", async () => {
  const ended = async (name: string, answer: unknown) => {
    answers.push(answer);
    await providers.get(name)!.revoke!("a1", "x");
    const { url, method, headers, form } = asked.at(-1)!;
    return [method, url, headers.get("authorization"), form];
  };
  expect(await ended("youtube", {})).toEqual([
    "POST",
    "https://oauth2.googleapis.com/revoke",
    null,
    { token: "a1" },
  ]);
  expect(await ended("twitch", {})).toEqual([
    "POST",
    "https://id.twitch.tv/oauth2/revoke",
    null,
    { client_id: "id", token: "a1" },
  ]);
  // Dropbox answers null.
  expect(await ended("dropbox", null)).toEqual([
    "POST",
    "https://api.dropboxapi.com/2/auth/token/revoke",
    "Bearer a1",
    {},
  ]);
  // Microsoft has no such call, and Facebook's ends what the person has connected anywhere.
  expect(["onedrive", "facebook"].map((name) => providers.get(name)!.revoke)).toEqual([undefined, undefined]);
});

test("an answer that names nobody connects nobody", async () => {
  answers.push({ data: [] });
  const callback = { account: null, query: new URLSearchParams() };
  await expect(providers.get("twitch")!.identify({ accessToken: "a", scopes: [] }, callback)).rejects.toThrow(
    "not of the shape",
  );
});
