import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

const db = await createTestDatabase();

test("copies of one mail stay as many as they are when the server counts anew", async () => {
  const owner = await db.createUser();
  const [{ id: account } = { id: "" }] = await db.query(
    `insert into messaging.email_accounts (user_id, email, username, imap_host, smtp_host, status)
      values ($1, 'a@example.com', 'a', 'imap.example.com', 'smtp.example.com', 'active') returning id`,
    [owner.id],
  );
  const read = (validity: number, ...uids: number[]) =>
    db.service.call("messaging.store_emails", {
      account_id: account,
      uid_validity: validity,
      up_to_uid: uids.at(-1)!,
      messages: uids.map((uid) => ({ uid, message_id: "<list@x>", received_at: "2026-01-01T00:00:00Z" })),
    });
  const uids = async () =>
    (
      await db.query(
        "select uid from messaging.email_messages where account_id = $1 and direction = 'in' order by uid",
        [account],
      )
    ).map(({ uid }) => uid);
  await read(5, 1, 2);
  await read(6, 11);
  expect(await uids()).toEqual([2, 11]);
  await read(6, 11);
  await read(6, 12, 13);
  expect(await uids()).toEqual([11, 12, 13]);
  await read(7, 21, 22, 23);
  expect(await uids()).toEqual([21, 22, 23]);
});
