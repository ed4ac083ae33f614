import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let owner: TestUser;
let admin: TestUser;
let member: TestUser;
let reader: TestUser;
let outsider: TestUser;
let stranger: TestUser;
let account: string;

const servers = { imap_host: "imap.example.com", smtp_host: "smtp.example.com" };
const settings = (email: string) => ({ email, ...servers });
const call = <T = never>(user: TestUser, name: string, args: Record<string, unknown>) =>
  db.user(user.id).call(`messaging.${name}`, args) as Promise<T>;
const setRole = (by: TestUser, user: TestUser, role: string | null) =>
  call(by, "set_email_account_role", { account_id: account, user_id: user.id, role });
const seal = (id = account) =>
  db.service.call("messaging.keep_email_password", {
    account_id: id,
    secret: { key_id: "k1", nonce: `\\x${"01".repeat(12)}`, ciphertext: `\\x${"02".repeat(20)}` },
  });
const arrive = (subject: string, id = account) =>
  db.service.query(
    `insert into messaging.email_messages (account_id, direction, status, uid_validity, uid, subject)
    values ($1, 'in', 'received', 1, (select coalesce(max(uid), 0) + 1 from messaging.email_messages), $2)`,
    [id, subject],
  );
const subjects = async (user: TestUser) =>
  (await db.user(user.id).query("select subject from messaging.email_messages order by subject")).map(
    ({ subject }) => subject,
  );
const accounts = async (user: TestUser) =>
  (await db.user(user.id).query("select email from messaging.email_accounts order by email")).map(
    ({ email }) => email,
  );

beforeEach(async () => {
  const people = await Promise.all(Array.from({ length: 6 }, () => db.createUser()));
  [owner, admin, member, reader, outsider, stranger] = people as [
    TestUser,
    TestUser,
    TestUser,
    TestUser,
    TestUser,
    TestUser,
  ];
  for (const [user, role] of [
    [admin, "admin"],
    [member, "member"],
    [reader, "viewer"],
    [outsider, "member"],
  ] as const) {
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
      [owner.workspaceId, user.id, role],
    );
  }
  const saved = await call<{ id: string }>(owner, "save_email_account", {
    settings: settings("Info@Example.com"),
    workspace_id: owner.workspaceId,
  });
  account = saved.id;
  await setRole(owner, member, "member");
  await setRole(owner, reader, "readonly");
});

describe("a shared mail account", () => {
  test("is seen by those who may use it and by admins of the workspace; its mail by the first alone", async () => {
    await arrive("Hello");
    for (const user of [owner, member, reader]) {
      expect([await accounts(user), await subjects(user)]).toEqual([["info@example.com"], ["Hello"]]);
    }
    expect([await accounts(admin), await subjects(admin)]).toEqual([["info@example.com"], []]);
    for (const user of [outsider, stranger]) {
      expect([await accounts(user), await subjects(user)]).toEqual([[], []]);
    }
    await expectError(db.anon.query("select 1 from messaging.email_messages"), "42501");
  });

  test("ends for whoever leaves the workspace", async () => {
    await arrive("Hello");
    await db.query("delete from identity.workspace_members where user_id = $1 and workspace_id = $2", [
      member.id,
      owner.workspaceId,
    ]);
    expect([await accounts(member), await subjects(member)]).toEqual([[], []]);
    await expectError(
      call(member, "send_email", {
        account_id: account,
        to_addresses: ["a@b.co"],
        subject: "x",
        text_body: "y",
      }),
      "unknown_mail_account",
      "PT404",
    );
  });

  test("is added by an admin of the workspace, once", async () => {
    const shared = { settings: settings("info@example.com"), workspace_id: owner.workspaceId };
    await expectError(call(admin, "save_email_account", shared), "mail_account_exists", "PT409");
    const second = { settings: settings("team@example.com"), workspace_id: owner.workspaceId };
    await expectError(call(member, "save_email_account", second), "role_too_low");
    for (const wrong of [[], "x", true])
      await expectError(call(owner, "save_email_account", { settings: wrong }), "invalid_argument", "PT400");
    await expectError(call(stranger, "save_email_account", second), "unknown_workspace");
    await expectError(db.anon.call("messaging.save_email_account", second), "42501");
  });

  test.each([
    [{ email: "no address" }],
    [{ imap_host: "a b" }],
    [{ smtp_port: 70_000 }],
    [{ display_name: "a\r\nBcc: b" }],
    [{ username: "a\r\nb" }],
    [{ color: "red" }],
  ])("takes no %j", async (wrong) => {
    await expectError(
      call(owner, "save_email_account", { settings: { ...settings("x@example.com"), ...wrong } }),
      "invalid_argument",
    );
  });

  test("cannot be given to another workspace or person by its settings", async () => {
    await call(owner, "save_email_account", {
      account_id: account,
      settings: { workspace_id: stranger.workspaceId, user_id: stranger.id, status: "active", last_uid: 9 },
    });
    expect(
      await db.query(
        "select workspace_id, user_id, status, last_uid from messaging.email_accounts where id = $1",
        [account],
      ),
    ).toEqual([{ workspace_id: owner.workspaceId, user_id: null, status: "no_password", last_uid: 0 }]);
  });

  test("is changed by its admins and those of the workspace; used for mail by its own members", async () => {
    await seal();
    const rename = (user: TestUser) =>
      call(user, "save_email_account", { account_id: account, settings: { display_name: "Info" } });
    await rename(owner);
    await rename(admin);
    await expectError(rename(member), "mail_role_too_low", "PT403");
    await expectError(rename(outsider), "unknown_mail_account", "PT404");
    const mail = { account_id: account, to_addresses: ["bob@example.com"], subject: "Hi", text_body: "Hi" };
    await call(member, "send_email", mail);
    await expectError(call(reader, "send_email", mail), "mail_role_too_low");
    await expectError(call(admin, "send_email", mail), "unknown_mail_account");
    await expectError(call(outsider, "test_email_account", { account_id: account }), "unknown_mail_account");
  });

  test("keeps an owner, and only owners and workspace admins make one", async () => {
    await expectError(setRole(owner, owner, null), "last_mail_owner");
    await expectError(setRole(owner, owner, "member"), "last_mail_owner");
    await setRole(owner, member, "admin");
    await expectError(setRole(member, member, "owner"), "mail_role_too_low");
    await setRole(member, reader, "member");
    await expectError(setRole(reader, outsider, "readonly"), "mail_role_too_low");
    await expectError(setRole(owner, stranger, "readonly"), "invalid_argument");
    await expectError(setRole(owner, member, "boss"), "invalid_argument");
    await setRole(admin, admin, "owner");
    await setRole(admin, owner, null);
    expect(await subjects(owner)).toEqual([]);
  });

  test("lets its members mark mail read, and nothing else of it", async () => {
    await arrive("Hello");
    const mark = (user: TestUser) =>
      db
        .user(user.id)
        .query("update messaging.email_messages set is_read = true where subject = 'Hello' returning 1");
    expect(await mark(reader)).toEqual([]);
    expect(await mark(stranger)).toEqual([]);
    expect(await mark(member)).toHaveLength(1);
    await expectError(db.user(member.id).query("update messaging.email_messages set subject = 'x'"), "42501");
    await expectError(
      db.user(owner.id).query("update messaging.email_accounts set status = 'active'"),
      "42501",
    );
    await expectError(db.user(owner.id).query("delete from messaging.email_messages"), "42501");
  });

  test("is switched off by its admins and deleted with its mail by its owner", async () => {
    await arrive("Hello");
    const off = (user: TestUser) =>
      db
        .user(user.id)
        .query("update messaging.email_accounts set is_active = false where id = $1 returning 1", [account]);
    expect(await off(member)).toEqual([]);
    expect(await off(owner)).toHaveLength(1);
    const remove = (user: TestUser) =>
      db.user(user.id).query("delete from messaging.email_accounts where id = $1 returning 1", [account]);
    expect(await remove(member)).toEqual([]);
    expect(await remove(owner)).toHaveLength(1);
    expect(await db.query("select 1 from messaging.email_messages where account_id = $1", [account])).toEqual(
      [],
    );
  });
});

test("a person's own account is nobody else's, not even of admins", async () => {
  const own = await call<{ id: string }>(member, "save_email_account", {
    settings: settings("me@example.com"),
  });
  await arrive("Private", own.id);
  expect(await subjects(member)).toEqual(["Private"]);
  for (const user of [owner, admin, stranger]) expect(await subjects(user)).not.toContain("Private");
  await expectError(
    call(owner, "save_email_account", { account_id: own.id, settings: {} }),
    "unknown_mail_account",
  );
  await expectError(
    call(member, "set_email_account_role", { account_id: own.id, user_id: owner.id, role: "readonly" }),
    "invalid_argument",
  );
});

test("the service alone stores passwords and mail", async () => {
  const secret = { key_id: "k", nonce: `\\x${"01".repeat(12)}`, ciphertext: `\\x${"02".repeat(20)}` };
  await expectError(call(owner, "keep_email_password", { account_id: account, secret }), "42501");
  await expectError(call(owner, "note_email_account", { account_id: account, error: null }), "42501");
  await expectError(
    call(owner, "store_emails", { account_id: account, uid_validity: 1, up_to_uid: 1, messages: [] }),
    "42501",
  );
});

test("a mail asked for with one key by many at once is one", async () => {
  await seal();
  const mail = {
    account_id: account,
    to_addresses: ["b@example.com"],
    subject: "Hi",
    text_body: "Hi",
    key: "once",
  };
  const ids = await Promise.all(
    Array.from({ length: 6 }, () => call<{ id: string }>(owner, "send_email", mail).then(({ id }) => id)),
  );
  expect(new Set(ids).size).toBe(1);
  expect(
    await db.query(
      "select count(*)::int as jobs from ops.jobs where kind = 'mail.send' and payload ->> 'message_id' = $1",
      [ids[0]],
    ),
  ).toEqual([{ jobs: 1 }]);
});

test("a mail that waits is taken back by members, and is not sent", async () => {
  await seal();
  const { id } = await call<{ id: string }>(member, "send_email", {
    account_id: account,
    to_addresses: ["b@example.com"],
    subject: "Oops",
    text_body: "Hi",
  });
  const cancel = (user: TestUser) => call<{ status: string }>(user, "cancel_email", { message_id: id });
  await expectError(cancel(reader), "mail_role_too_low");
  await expectError(cancel(stranger), "unknown_mail", "PT404");
  expect((await cancel(owner)).status).toBe("cancelled");
  expect((await cancel(member)).status).toBe("cancelled");
  expect(
    await db.query("select state from ops.jobs where kind = 'mail.send' and payload ->> 'message_id' = $1", [
      id,
    ]),
  ).toEqual([{ state: "cancelled" }]);
  expect(await db.query("select status from messaging.email_log where message_id = $1", [id])).toEqual([
    { status: "failed" },
  ]);
});

test("mail is stored once however often it is read, and not for an account that has been changed", async () => {
  await seal();
  await db.service.call("messaging.note_email_account", { account_id: account, error: null });
  const read = (uid: number, validity = 5) =>
    db.service.call("messaging.store_emails", {
      account_id: account,
      uid_validity: validity,
      up_to_uid: uid,
      messages: [
        { uid, message_id: `<${uid}@x>`, subject: `Mail ${uid}`, received_at: "2026-01-01T00:00:00Z" },
      ],
    });
  expect(await Promise.all([read(1), read(1), read(2)])).toEqual([true, true, true]);
  expect(await subjects(owner)).toEqual(["Mail 1", "Mail 2"]);
  expect(await read(1, 6)).toBe(true);
  expect(await subjects(owner)).toEqual(["Mail 1", "Mail 2"]);
  await call(owner, "save_email_account", {
    account_id: account,
    settings: { imap_host: "other.example.com" },
  });
  expect(await read(3)).toBe(false);
});
