// Users as the auth admin API shows and changes them, in the tables that @supabase/lite signs people in with.

import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { UserAttributes } from "./auth-admin.ts";
import { transaction } from "./transaction.ts";

type Metadata = Record<string, unknown>;

export type AuthUser = {
  id: string;
  aud: string;
  role: string;
  email: string;
  phone: string;
  app_metadata: Metadata;
  user_metadata: Metadata;
  identities: unknown[];
} & Record<string, unknown>;

const columns = `
  u.id, u.aud, u.role, coalesce(u.email, '') as email, coalesce(u.phone, '') as phone,
  u.email_confirmed_at, u.phone_confirmed_at, u.confirmed_at, u.last_sign_in_at, u.banned_until, u.deleted_at,
  coalesce(u.raw_app_meta_data, '{}') as app_metadata, coalesce(u.raw_user_meta_data, '{}') as user_metadata,
  u.created_at, u.updated_at, u.is_anonymous,
  coalesce((
    select jsonb_agg(to_jsonb(i) - 'id' - 'provider_id'
      || jsonb_build_object('identity_id', i.id, 'id', i.provider_id) order by i.created_at)
    from auth.identities i where i.user_id = u.id
  ), '[]') as identities`;

export async function findUser(db: pg.Pool | pg.PoolClient, id: string): Promise<AuthUser | undefined> {
  return (await db.query<AuthUser>(`select ${columns} from auth.users u where u.id = $1`, [id])).rows[0];
}

export async function listUsers(pool: pg.Pool, page: number, perPage: number) {
  const users = await pool.query<AuthUser>(
    `select ${columns} from auth.users u order by u.created_at desc, u.id limit $1 offset $2`,
    [perPage, (page - 1) * perPage],
  );
  const count = await pool.query<{ total: number }>("select count(*)::int as total from auth.users");
  return { users: users.rows, total: count.rows[0]?.total ?? 0 };
}

/** Go's durations ("24h", "1h30m") read by Postgres; "none" lifts the ban. */
const bannedUntil = `case when $1::text = 'none' then null else now() + $1::text::interval end`;
const hashed = (parameter: string) => `extensions.crypt(${parameter}, extensions.gen_salt('bf', 10))`;

export function createUser(pool: pg.Pool, wanted: UserAttributes): Promise<AuthUser | undefined> {
  const id = wanted.id ?? randomUUID();
  const provider = wanted.email ? "email" : "phone";
  const userMetadata = {
    ...wanted.user_metadata,
    ...(wanted.email && { email_verified: wanted.email_confirm ?? false }),
  };
  return transaction(pool, async (client) => {
    await client.query(
      `insert into auth.users
         (id, aud, role, email, phone, encrypted_password, email_confirmed_at, phone_confirmed_at,
          raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
       values ($1, 'authenticated', $2, $3, $4, ${hashed("$5")},
          case when $6::boolean then now() end, case when $7::boolean then now() end, $8, $9, now(), now())`,
      [
        id,
        wanted.role ?? "authenticated",
        wanted.email ?? null,
        wanted.phone ?? null,
        wanted.password ?? randomUUID(),
        wanted.email !== undefined && wanted.email_confirm === true,
        wanted.phone !== undefined && wanted.phone_confirm === true,
        { provider, providers: [provider], ...wanted.app_metadata },
        userMetadata,
      ],
    );
    const identity = {
      sub: id,
      email: wanted.email,
      phone: wanted.phone,
      email_verified: false,
      phone_verified: false,
    };
    await client.query(
      "insert into auth.identities (provider_id, user_id, identity_data, provider) values ($1::text, $1::uuid, $2, $3)",
      [id, identity, provider],
    );
    if (wanted.ban_duration) {
      await client.query(`update auth.users set banned_until = ${bannedUntil} where id = $2`, [
        wanted.ban_duration,
        id,
      ]);
    }
    return findUser(client, id);
  });
}

/** Later keys win; a key set to null goes away. */
function merged(before: Metadata, change: Metadata | undefined): Metadata {
  return Object.fromEntries(Object.entries({ ...before, ...change }).filter(([, value]) => value !== null));
}

export function updateUser(pool: pg.Pool, id: string, wanted: UserAttributes): Promise<AuthUser | undefined> {
  return transaction(pool, async (client) => {
    await client.query("select from auth.users where id = $1 for update", [id]);
    const before = await findUser(client, id);
    if (!before) return undefined;
    await client.query(
      `update auth.users set
         email = coalesce($2, email), phone = coalesce($3, phone), role = coalesce($4, role),
         encrypted_password = case when $5::text is null then encrypted_password else ${hashed("$5")} end,
         email_confirmed_at = case when $6::boolean then coalesce(email_confirmed_at, now()) else email_confirmed_at end,
         phone_confirmed_at = case when $7::boolean then coalesce(phone_confirmed_at, now()) else phone_confirmed_at end,
         raw_app_meta_data = $8, raw_user_meta_data = $9, updated_at = now()
       where id = $1`,
      [
        id,
        wanted.email ?? null,
        wanted.phone ?? null,
        wanted.role ?? null,
        wanted.password ?? null,
        wanted.email_confirm ?? false,
        wanted.phone_confirm ?? false,
        merged(before.app_metadata, wanted.app_metadata),
        merged(before.user_metadata, wanted.user_metadata),
      ],
    );
    if (wanted.email) {
      await client.query(
        `update auth.identities set identity_data = identity_data || jsonb_build_object('email', $2::text), updated_at = now()
         where user_id = $1 and provider = 'email'`,
        [id, wanted.email],
      );
    }
    if (wanted.ban_duration) {
      await client.query(`update auth.users set banned_until = ${bannedUntil} where id = $2`, [
        wanted.ban_duration,
        id,
      ]);
    }
    return findUser(client, id);
  });
}

/** A soft delete keeps the row for what refers to it and makes the person unrecognisable. */
export function deleteUser(pool: pg.Pool, id: string, soft: boolean): Promise<boolean> {
  return transaction(pool, async (client) => {
    if (!soft) return (await client.query("delete from auth.users where id = $1", [id])).rowCount === 1;
    await client.query("delete from auth.sessions where user_id = $1", [id]);
    await client.query("delete from auth.identities where user_id = $1", [id]);
    const { rowCount } = await client.query(
      `update auth.users set deleted_at = now(), updated_at = now(), phone = null, encrypted_password = null,
         email = encode(sha256(convert_to(coalesce(email, '') || id::text, 'UTF8')), 'hex'),
         raw_user_meta_data = '{}' where id = $1 and deleted_at is null`,
      [id],
    );
    return rowCount === 1;
  });
}
