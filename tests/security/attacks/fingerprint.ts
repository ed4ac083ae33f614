import type { Scene } from "./attack.ts";

/**
 * All that tables hold of the victim; where nobody else does anything meanwhile, also what no workspace column names, such
 * as mail and forms.
 */
export async function fingerprint({ db, victim }: Scene, { alone = true } = {}): Promise<string> {
  const tables = await db.query(
    `select format('%I.%I', n.nspname, c.relname) as name, exists (select from pg_attribute a
        where a.attrelid = c.oid and a.attname = 'workspace_id' and a.atttypid = 'uuid'::regtype) as has_workspace
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname in ('identity', 'billing', 'integrations', 'studio', 'commerce', 'social', 'ai',
        'messaging', 'ops') and c.relname not in ('rate_limits')
      order by 1`,
  );
  const sums = tables
    .filter(({ has_workspace }) => alone || has_workspace)
    .map(
      ({
        name,
        has_workspace,
      }) => `select '${name}' as name, md5(string_agg(t::text, ',' order by t::text)) as sum
      from ${name} t ${has_workspace ? `where t.workspace_id = '${victim.workspaceId}'` : ""}`,
    );
  const rows = await db.query(sums.join(" union all "));
  return rows
    .map(({ name, sum }) => `${name} ${sum}`)
    .sort()
    .join("\n");
}
