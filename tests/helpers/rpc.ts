import type pg from "pg";

export interface CompiledCall {
  sql: string;
  params: unknown[];
  /** The function returns one value, not a row. */
  scalar: boolean;
}
export type RpcCompiler = (name: string, args: Record<string, unknown>) => Promise<CompiledCall>;

interface Signature {
  names: string[];
  types: string[];
  required: number;
  scalar: boolean;
}

/**
 * Compiles calls the way PostgREST does: all arguments travel as one JSON object that Postgres
 * itself turns into the declared types, so tests meet the same conversions as clients.
 */
export function makeRpcCompiler(pool: pg.Pool): RpcCompiler {
  const known = new Map<string, Promise<Signature[]>>();
  return async (name, args) => {
    if (!known.has(name)) known.set(name, signaturesOf(pool, name));
    const signatures = (await known.get(name)) ?? [];
    const given = Object.keys(args).filter((key) => args[key] !== undefined);
    const signature = signatures.find(
      ({ names, required }) =>
        given.every((key) => names.includes(key)) &&
        names.slice(0, required).every((key) => given.includes(key)),
    );
    if (!signature) {
      const candidates =
        signatures.map(({ names }) => `(${names.join(", ")})`).join(" or ") || "no such function";
      throw new Error(`No ${name}(${given.join(", ")}): ${candidates}`);
    }
    const target = name.split(".").map(quote).join(".");
    if (given.length === 0)
      return { sql: `select f.* from ${target}() as f`, params: [], scalar: signature.scalar };
    const columns = given.map((key) => `${quote(key)} ${signature.types[signature.names.indexOf(key)]}`);
    const passed = given.map((key) => `${quote(key)} => args.${quote(key)}`);
    return {
      sql: `select f.* from json_to_record($1::json) as args (${columns.join(", ")}),
        lateral ${target}(${passed.join(", ")}) as f`,
      params: [JSON.stringify(args)],
      scalar: signature.scalar,
    };
  };
}

async function signaturesOf(pool: pg.Pool, name: string): Promise<Signature[]> {
  const { rows } = await pool.query<Signature>(
    `select
      coalesce((select array_agg(coalesce(p.proargnames[i], '')::text order by i)
        from generate_series(1, p.pronargs) i), '{}') as names,
      coalesce((select array_agg(format_type(t.oid, null) order by t.i)
        from unnest(p.proargtypes::oid[]) with ordinality t (oid, i)), '{}') as types,
      p.pronargs - p.pronargdefaults as required,
      r.typtype <> 'c' and not p.proretset and p.prorettype <> 'record'::regtype as scalar
    from pg_proc p join pg_type r on r.oid = p.prorettype
    where p.oid in (select f.oid from pg_proc f join pg_namespace n on n.oid = f.pronamespace
      where n.nspname || '.' || f.proname = $1)`,
    [name],
  );
  return rows;
}

function quote(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
