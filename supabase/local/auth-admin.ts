// /auth/v1/admin/users: what auth.admin of supabase-js calls, for the service only.

import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import pg from "pg";
import { z } from "zod";
import { type AuthUser, createUser, deleteUser, findUser, listUsers, updateUser } from "./auth-users.ts";
import { identify, Refusal } from "./caller.ts";
import type { Keys } from "./keys.ts";

const attributes = z.object({
  id: z.uuid().optional(),
  email: z
    .email()
    .transform((email) => email.toLowerCase())
    .optional(),
  phone: z.string().min(3).optional(),
  password: z.string().min(1).max(72).optional(),
  email_confirm: z.boolean().optional(),
  phone_confirm: z.boolean().optional(),
  user_metadata: z.record(z.string(), z.unknown()).optional(),
  app_metadata: z.record(z.string(), z.unknown()).optional(),
  role: z.string().optional(),
  ban_duration: z
    .string()
    .regex(/^(none|(\d+(\.\d+)?(h|m|s))+)$/)
    .optional(),
});

export type UserAttributes = z.infer<typeof attributes>;

// supabase-js sends an empty parameter for one that is not given.
const parameter = (fallback: number, max: number) =>
  z.preprocess(
    (text) => (text === "" ? undefined : text),
    z.coerce.number().int().min(1).max(max).default(fallback),
  );
const paging = z.object({ page: parameter(1, 1_000_000), per_page: parameter(50, 1000) });

const failure = (status: 400 | 401 | 403 | 404 | 422 | 500, errorCode: string, msg: string) =>
  new HTTPException(status, { res: Response.json({ code: status, error_code: errorCode, msg }, { status }) });

const invalid = (error: z.ZodError) => failure(400, "validation_failed", z.prettifyError(error));
const notFound = () => failure(404, "user_not_found", "User not found");

async function readAttributes(request: { json(): Promise<unknown> }): Promise<UserAttributes> {
  const body = await request.json().catch(() => {
    throw failure(400, "bad_json", "Could not parse request body as JSON");
  });
  const parsed = attributes.safeParse(body);
  if (!parsed.success) throw invalid(parsed.error);
  return parsed.data;
}

function userId(text: string): string {
  const parsed = z.uuid().safeParse(text);
  if (!parsed.success) throw failure(404, "validation_failed", "user_id must be an UUID");
  return parsed.data;
}

/** The database's refusals in the words of the auth server. */
function translate(error: unknown): never {
  if (!(error instanceof pg.DatabaseError)) throw error;
  if (error.code === "23505" && error.constraint?.startsWith("users_email")) {
    throw failure(422, "email_exists", "A user with this email address has already been registered");
  }
  if (error.code === "23505" && error.constraint?.includes("phone")) {
    throw failure(422, "phone_exists", "A user with this phone number has already been registered");
  }
  throw failure(500, "unexpected_failure", `Database error: ${error.message}`);
}

const present = (user: AuthUser | undefined): AuthUser => {
  if (!user) throw notFound();
  return user;
};

export function authAdmin(pool: pg.Pool, keys: Keys): Hono {
  const app = new Hono();
  app.use(async (c, next) => {
    try {
      const { role } = await identify(c.req.raw, keys);
      if (role !== "service_role") throw failure(403, "not_admin", "User not allowed");
    } catch (error) {
      if (error instanceof Refusal) throw failure(401, "no_authorization", error.message);
      throw error;
    }
    await next();
  });
  app.get("/users", async (c) => {
    const query = paging.safeParse(c.req.query());
    if (!query.success) throw invalid(query.error);
    const { page, per_page } = query.data;
    const { users, total } = await listUsers(pool, page, per_page);
    const last = Math.max(1, Math.ceil(total / per_page));
    const link = (n: number, rel: string) =>
      `<${new URL(c.req.url).pathname}?page=${n}&per_page=${per_page}>; rel="${rel}"`;
    c.header("x-total-count", String(total));
    c.header("link", [...(page < last ? [link(page + 1, "next")] : []), link(last, "last")].join(", "));
    return c.json({ users, aud: "authenticated" });
  });
  app.post("/users", async (c) => {
    const wanted = await readAttributes(c.req);
    if (!wanted.email && !wanted.phone) {
      throw failure(400, "validation_failed", "Cannot create a user without either an email or phone");
    }
    return c.json(await createUser(pool, wanted).catch(translate));
  });
  app.get("/users/:id", async (c) => c.json(present(await findUser(pool, userId(c.req.param("id"))))));
  app.put("/users/:id", async (c) => {
    const wanted = await readAttributes(c.req);
    return c.json(present(await updateUser(pool, userId(c.req.param("id")), wanted).catch(translate)));
  });
  app.delete("/users/:id", async (c) => {
    const body: { should_soft_delete?: boolean } = await c.req.json().catch(() => ({}));
    const soft = body.should_soft_delete === true;
    if (!(await deleteUser(pool, userId(c.req.param("id")), soft).catch(translate))) throw notFound();
    return c.json({});
  });
  app.all("*", () => {
    throw failure(404, "not_found", "The local stack has only the users of the auth admin API.");
  });
  return app;
}
