import { randomUUID } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import { beforeAll, describe, expect, test } from "vitest";
import { type Client, must, type Person, useStack } from "../e2e/stack.ts";
import { type Actor, may, type Place, places, ranks } from "./places.ts";

const s = useStack();
/** The workspace whose files are attacked. */
let victim: string;
const clients = {} as Record<Actor, Client>;
/** A folder where the actor, by their own rights, may upload. */
const homes = {} as Record<Actor, string>;

beforeAll(async () => {
  const people = await Promise.all(["victim", ...ranks].map(() => s.person(0)));
  const [owner, ...others] = people as [Person, ...Person[]];
  victim = owner.workspaceId;
  const join = (userId: string, role: string) =>
    s.sql("insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)", [
      victim,
      userId,
      role,
    ]);
  for (const [at, actor] of ranks.entries()) {
    const person = others[at]!;
    clients[actor] = person.client;
    homes[actor] = person.workspaceId;
    if (["viewer", "member", "editor"].includes(actor)) await join(person.userId, actor);
    if (actor === "suspended") {
      await join(person.userId, "editor");
      await s.sql("update identity.profiles set status = 'suspended' where id = $1", [person.userId]);
    }
    if (actor === "former") {
      await join(person.userId, "editor");
      must(
        await person.client.storage.from("studio-uploads").upload(`${victim}/mine.png`, body("image/png")),
      );
      await s.sql("delete from identity.workspace_members where workspace_id = $1 and user_id = $2", [
        victim,
        person.userId,
      ]);
    }
  }
  clients.anon = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  clients.service = s.service;
}, 120_000);

const body = (type: string, text = randomUUID()) => new Blob([text], { type });
const fileName = () => `${randomUUID()}.bin`;
/** A file of the victim's, as the service wrote it. */
async function planted(place: Place): Promise<{ path: string; text: string }> {
  const path = `${victim}/${place.folder}${fileName()}`;
  const text = randomUUID();
  const options = { contentType: place.type };
  must(await s.service.storage.from(place.bucket).upload(path, body(place.type, text), options));
  return { path, text };
}
const textOf = async (place: Place, path: string): Promise<string | undefined> =>
  (await s.service.storage.from(place.bucket).download(path)).data?.text();
const got = async (answer: Promise<Response>) => {
  const response = await answer;
  return { ok: response.ok, text: await response.text() };
};

test("every bucket is attacked here, with its kinds and sizes", async () => {
  const buckets = await s.sql(
    "select id, public, file_size_limit::int as limit, allowed_mime_types as types from storage.buckets order by id",
  );
  expect([...new Set(places.map(({ bucket }) => bucket))].sort()).toEqual(buckets.map(({ id }) => id));
  for (const place of places) {
    const bucket = buckets.find(({ id }) => id === place.bucket)!;
    expect(bucket).toMatchObject({ public: place.public ?? false, limit: place.limit });
    expect(bucket.types).toContain(place.type);
    expect(bucket.types).not.toContain(place.wrongType);
  }
});

describe.each(places)("$bucket/$folder", (place) => {
  const at = (actor: Actor) => clients[actor].storage.from(place.bucket);
  const options = { contentType: place.type };

  test.each(ranks)("a(n) %s reads what they may, by every way", async (actor) => {
    const { path, text } = await planted(place);
    const reads = may(actor, place.reads);
    const folder = path.slice(0, path.lastIndexOf("/"));
    const name = path.slice(folder.length + 1);
    const listed = (await at(actor).list(folder, { limit: 1000 })).data ?? [];
    expect(listed.some((entry) => entry.name === name)).toBe(reads);
    const roots = (await at(actor).list("", { limit: 1000 })).data ?? [];
    expect(roots.some((entry) => entry.name === victim)).toBe(
      reads || (place.folder !== "" && may(actor, "viewer")),
    );
    expect(await (await at(actor).download(path)).data?.text()).toBe(reads ? text : undefined);
    expect((await at(actor).info(path)).error === null).toBe(reads);
    expect((await at(actor).createSignedUrl(path, 60)).error === null).toBe(reads);
    const [signed] = (await at(actor).createSignedUrls([path], 60)).data ?? [];
    expect(Boolean(signed?.signedUrl)).toBe(reads);
    const open = await got(fetch(at(actor).getPublicUrl(path).data.publicUrl));
    expect(open.ok).toBe(place.public === true);
    if (!place.public) expect(open.text).not.toContain(text);
  });

  test.each(ranks)("a(n) %s writes where they may, by every way", async (actor) => {
    const fresh = () => `${victim}/${place.folder}${fileName()}`;
    const uploads = may(actor, place.uploads);
    const replaces = may(actor, place.replaces);
    const first = fresh();
    expect((await at(actor).upload(first, body(place.type), options)).error === null).toBe(uploads);
    expect((await textOf(place, first)) !== undefined).toBe(uploads);
    const second = { ...options, upsert: true };
    expect((await at(actor).upload(fresh(), body(place.type), second)).error === null).toBe(uploads);
    expect((await at(actor).createSignedUploadUrl(fresh())).error === null).toBe(uploads);

    const { path, text } = await planted(place);
    for (const write of [
      () => at(actor).upload(path, body(place.type), { ...options, upsert: true }),
      () => at(actor).update(path, body(place.type), options),
    ]) {
      expect((await write()).error === null).toBe(replaces);
    }
    expect((await at(actor).createSignedUploadUrl(path, { upsert: true })).error === null).toBe(replaces);
    expect((await textOf(place, path)) === text).toBe(!replaces);
    const own = fresh();
    if (uploads && actor === "member") {
      must(await at(actor).upload(own, body(place.type), options));
      expect((await at(actor).update(own, body(place.type), options)).error === null).toBe(place.own);
      await at(actor).remove([own]);
      expect((await textOf(place, own)) === undefined).toBe(place.own);
    }
  });

  test.each(ranks)("a(n) %s moves, copies and deletes what they may", async (actor) => {
    const { path, text } = await planted(place);
    const elsewhere = `${victim}/${place.folder}${fileName()}`;
    // Into a folder of one's own: nothing of the victim's may come there but by who may read it.
    const home = `${homes[actor]}/${fileName()}`;
    const copied = await at(actor).copy(path, home);
    const canCopyHome = may(actor, place.reads) && (actor === "service" || place.uploads !== "service");
    if (!canCopyHome && place.folder === "") expect(copied.error).not.toBeNull();
    if (!may(actor, place.reads)) expect(await textOf(place, home)).toBeUndefined();
    const moved = await at(actor).move(path, elsewhere);
    expect(moved.error === null).toBe(may(actor, place.replaces));
    const now = moved.error ? path : elsewhere;
    expect(await textOf(place, now)).toBe(text);
    if (!may(actor, place.replaces)) {
      expect((await at(actor).move(now, `${homes[actor]}/${fileName()}`)).error).not.toBeNull();
    }
    await at(actor).remove([now]);
    expect((await textOf(place, now)) === undefined).toBe(may(actor, place.removes));
  });

  test("takes nothing of another kind or too large, of the service neither", async () => {
    const name = `${victim}/${place.folder}${fileName()}`;
    const wrong = { contentType: place.wrongType };
    for (const actor of ["editor", "service"] as const) {
      expect((await at(actor).upload(name, body(place.wrongType), wrong)).error).not.toBeNull();
      for (const contentType of [
        place.wrongType,
        `${place.wrongType}; ${place.type}`,
        "text/html,image/png",
        "*/*",
      ]) {
        const { error } = await at(actor).upload(name, new Uint8Array(4), { contentType });
        expect(error, contentType).not.toBeNull();
      }
    }
    if (place.limit <= 20 * 1024 * 1024) {
      const large = new Blob([new Uint8Array(place.limit + 1)], { type: place.type });
      expect((await at("service").upload(name, large, options)).error).not.toBeNull();
    }
    expect(await textOf(place, name)).toBeUndefined();
  });

  test("no path leads out of one's own folder", async () => {
    const { path, text } = await planted(place);
    const inside = path.slice(victim.length + 1);
    const own = homes.outsider;
    const names = [
      `${own}/../${path}`,
      `${own}/..%2f${path}`,
      `${own}%2f..%2f${path}`,
      `%2e%2e/${place.bucket}/${path}`,
      `${own}/%252e%252e/${path}`,
      `${own}/..\\${path}`,
      `./${path}`,
      `/${path}`,
      `//${path}`,
      `${victim.toUpperCase()}/${inside}`,
      `${victim} /${inside}`,
      `${victim}%00/${inside}`,
      `${own}/../../${place.bucket}/${path}`,
      `${path}/`,
      `${path}?token=`,
    ];
    const token = (await clients.outsider.auth.getSession()).data.session!.access_token;
    const headers = {
      apikey: s.stack.publishableKey,
      authorization: `Bearer ${token}`,
      "content-type": place.type,
    };
    // The bucket's own count: the worker still makes small copies of what people signed up with.
    const count = () =>
      s.sql(
        `select count(*)::int as n from storage.objects
          where bucket_id = $1 and name like $2 and name not like '%/thumbnails/%'`,
        [place.bucket, `%${victim}%`],
      );
    const before = await count();
    const attack = async (name: string) => {
      for (const way of ["object", "object/authenticated", "object/info", "object/sign"]) {
        const read = await got(
          fetch(`${s.stack.apiUrl}/storage/v1/${way}/${place.bucket}/${name}`, { headers }),
        );
        expect(read.text, `${way} ${name}`).not.toContain(text);
      }
      for (const method of ["POST", "PUT", "DELETE"]) {
        const more = method === "DELETE" ? {} : { body: "stolen" };
        const url = `${s.stack.apiUrl}/storage/v1/object/${place.bucket}/${name}`;
        const write = await got(fetch(url, { method, headers: { ...headers, "x-upsert": "true" }, ...more }));
        expect(write.ok, `${method} ${name}: ${write.text}`).toBe(false);
      }
      const asked = { bucketId: place.bucket, sourceKey: name, destinationKey: `${own}/${fileName()}` };
      for (const verb of ["move", "copy"]) {
        const init = { method: "POST", headers: { ...headers, "content-type": "application/json" } };
        const url = `${s.stack.apiUrl}/storage/v1/object/${verb}`;
        expect((await got(fetch(url, { ...init, body: JSON.stringify(asked) }))).ok, `${verb} ${name}`).toBe(
          false,
        );
      }
    };
    await Promise.all(names.map(attack));
    expect(await textOf(place, path)).toBe(text);
    expect(await count()).toEqual(before);
  });
});

test("who has left comes no more to what they had uploaded themselves", async () => {
  const mine = clients.former.storage.from("studio-uploads");
  const path = `${victim}/mine.png`;
  expect((await mine.download(path)).error).not.toBeNull();
  expect((await mine.createSignedUrl(path, 60)).error).not.toBeNull();
  expect((await mine.update(path, body("image/png"), { contentType: "image/png" })).error).not.toBeNull();
  expect((await mine.move(path, `${homes.former}/mine.png`)).error).not.toBeNull();
  expect((await mine.remove([path])).data).toEqual([]);
  expect((await s.service.storage.from("studio-uploads").exists(path)).data).toBe(true);
});

describe("addresses that were signed", () => {
  test("are good for that object alone, and not for the other way", async () => {
    const place = places[0]!;
    const { path } = await planted(place);
    const other = await planted(place);
    const signed = must(await clients.viewer.storage.from(place.bucket).createSignedUrl(path, 60)).signedUrl;
    expect((await fetch(signed)).ok).toBe(true);
    expect((await fetch(signed.replace(path, other.path))).ok).toBe(false);
    expect((await fetch(signed, { method: "PUT", body: "x" })).ok).toBe(false);
    const upload = signed.replace("/object/sign/", "/object/upload/sign/");
    expect(
      (await fetch(upload, { method: "PUT", body: "x", headers: { "content-type": "image/png" } })).ok,
    ).toBe(false);
  });
});

describe("buckets themselves", () => {
  test.each(["anon", "outsider", "editor"] as const)(
    "cannot be changed, emptied or made by a(n) %s",
    async (actor) => {
      const { storage } = clients[actor];
      const before = await s.sql("select id, public, file_size_limit from storage.buckets order by id");
      for (const { bucket } of places) {
        await planted(places.find((place) => place.bucket === bucket)!);
        expect((await storage.updateBucket(bucket, { public: true })).error, bucket).not.toBeNull();
        expect((await storage.emptyBucket(bucket)).error, bucket).not.toBeNull();
        expect((await storage.deleteBucket(bucket)).error, bucket).not.toBeNull();
      }
      expect((await storage.createBucket("mine", { public: true })).error).not.toBeNull();
      expect((await storage.listBuckets()).data ?? []).toEqual([]);
      expect(await s.sql("select id, public, file_size_limit from storage.buckets order by id")).toEqual(
        before,
      );
    },
  );
});
