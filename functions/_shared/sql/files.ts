// Files in storage that are to be deleted: SQL functions of the schema ops, typed.

import type { Database, Statement } from "../db.ts";

export interface FilePlace {
  bucket: string;
  path: string;
}

const statements = {
  plan: {
    name: "plan_file_removal",
    text: "select bucket, path, waits from ops.plan_file_removal($1::jsonb, $2)",
    repeatable: true,
  },
  count: { name: "count_files", text: "select ops.count_files($1::jsonb) as files", repeatable: true },
  ofWorkspace: {
    name: "files_of_workspace",
    text: "select bucket, path from ops.files_of_workspace($1)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** Which of these files nobody needs; `waits`: when the work on them has ended. forced: whoever needs them. */
export const planRemoval = (db: Database, files: readonly FilePlace[], forced: boolean) =>
  db.rows<FilePlace & { waits: boolean }>(statements.plan, [JSON.stringify(files), forced]);

/** How many of these files storage has. */
export async function countFiles(db: Database, files: readonly FilePlace[]): Promise<number> {
  const places = files.map(({ bucket, path }) => ({ bucket, path }));
  return (await db.row<{ files: number }>(statements.count, [JSON.stringify(places)])).files;
}

/** Up to 500 files of a workspace that is gone. */
export const filesOfWorkspace = (db: Database, workspaceId: string) =>
  db.rows<FilePlace>(statements.ofWorkspace, [workspaceId]);
