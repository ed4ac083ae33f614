import { z } from "zod";
import type { Database } from "../../_shared/db.ts";
import { findImport, finishCheck, finishImport, noteCheck, storeRows } from "../../_shared/sql/imports.ts";
import { type Columns, mapColumns } from "../imports/columns.ts";
import { delimiterOf, firstLine, openCsv } from "../imports/read.ts";
import { clean, type ProductRow, type RowError, readRow } from "../imports/rows.ts";
import { completed, type Handler, JobError, waiting } from "../job.ts";
import type { Storage } from "../storage.ts";

const payload = z.object({ batch_id: z.uuid(), step: z.enum(["validate", "import"]) });

export interface ImportDeps {
  storage: Pick<Storage, "signedUrl">;
  fetch?: typeof fetch;
}
export interface ImportLimits {
  /** Rows that are written, or noted, at once. */
  pageRows: number;
  /** Rows of one attempt, which bounds its CPU time; the job then goes on from its checkpoint. */
  attemptRows: number;
  mostRows: number;
}

const platform: ImportLimits = { pageRows: 500, attemptRows: 15_000, mostRows: 100_000 };
const bucket = "commerce-imports";
const previewRows = 20;

/** Where a step stands: plain data that a checkpoint keeps. */
interface State {
  offset: number;
  row: number;
  delimiter: string;
  header: string[];
  columns: Columns;
  valid: number;
  invalid: number;
  preview: ProductRow[];
}

/**
 * commerce.csv_import: checks a file of products, or writes its valid rows. The file is read as it comes and never
 * held as a whole; after each page the job can stop, and goes on from the byte at which the next row begins.
 */
export function importCsv({ storage, fetch: fetcher = fetch }: ImportDeps, limits = platform): Handler {
  return async (job, { db, signal, checkpoint }) => {
    const { batch_id, step } = payload.parse(job.payload);
    const batch = await findImport(db, batch_id);
    if (!batch) throw new JobError("unknown_import", "The import is gone.", { retry: false });
    const url = await storage.signedUrl(bucket, batch.source_file_path, 3600).catch((error: unknown) => {
      if (!(error instanceof JobError) || error.code !== "unknown_image") throw error;
      throw new JobError("unknown_file", "The file has been deleted.", { retry: false });
    });
    const state: State = isState(job.checkpoint)
      ? job.checkpoint
      : { ...structuredClone(fresh), delimiter: delimiterOf(await firstLine(url, fetcher, signal)) };
    const page: Page = { products: [], errors: [] };
    const lastRow = state.row + limits.attemptRows;

    const file = await openCsv(url, state, { fetch: fetcher, signal });
    const percent = () => Math.min(99, Math.floor((state.offset / Math.max(1, file.size)) * 100));
    /** False: the import has been ended, or the job is another worker's now. */
    const turn = async (): Promise<boolean> => {
      if (!(await write(db, batch_id, step, state, page, percent()))) return false;
      page.products = [];
      page.errors = [];
      return checkpoint({ checkpoint: state, progress: percent(), stage: step });
    };

    for await (const { cells, end } of file.records) {
      if (state.header.length === 0) begin(state, cells, batch.column_mapping);
      else take(state, page, cells, step);
      state.offset = end;
      if (state.row > limits.mostRows) {
        throw new JobError("too_many_rows", `A file may have at most ${limits.mostRows} rows.`, {
          retry: false,
        });
      }
      if (page.products.length + page.errors.length < limits.pageRows) continue;
      if (!(await turn())) return completed({ status: "ended" });
      if (state.row >= lastRow) return waiting({ poll_in: 0, checkpoint: state });
    }
    if (state.row === 0) throw new JobError("empty_file", "The file has no rows.", { retry: false });
    if (!(await turn())) return completed({ status: "ended" });
    if (step === "validate") await finishCheck(db, batch_id);
    else await finishImport(db, batch_id);
    return completed({ rows: state.row, valid: state.valid, invalid: state.invalid });
  };
}

const fresh: Omit<State, "delimiter"> = {
  offset: 0,
  row: 0,
  header: [],
  columns: {},
  valid: 0,
  invalid: 0,
  preview: [],
};
interface Page {
  products: ProductRow[];
  errors: RowError[];
}

function isState(checkpoint: unknown): checkpoint is State {
  return (
    typeof checkpoint === "object" && checkpoint !== null && "offset" in checkpoint && "header" in checkpoint
  );
}

/** The line of names. Errors: JobError missing_columns, unknown_columns. */
function begin(state: State, cells: string[], mapping: Record<string, unknown>): void {
  const { columns, unknown } = mapColumns(cells, mapping);
  if (unknown.length > 0) {
    const message = `The file has no columns for ${unknown.join(", ")}.`;
    throw new JobError("unknown_columns", message, { retry: false });
  }
  if (!columns.title || !(columns.external_id || columns.sku)) {
    const message =
      "The file needs a column for the title and one for an id or SKU; map them where they have other names.";
    throw new JobError("missing_columns", message, { retry: false });
  }
  state.header = cells.map(clean);
  state.columns = columns;
}

function take(state: State, page: Page, cells: string[], step: "validate" | "import"): void {
  state.row++;
  const read = readRow(cells, state.columns, state.header, state.row);
  if ("errors" in read) {
    state.invalid++;
    page.errors.push(...read.errors);
    return;
  }
  state.valid++;
  page.products.push(read.product);
  if (step === "validate" && state.preview.length < previewRows) state.preview.push(read.product);
}

async function write(
  db: Database,
  batchId: string,
  step: "validate" | "import",
  state: State,
  page: Page,
  percent: number,
): Promise<boolean> {
  if (step === "import") return storeRows(db, batchId, page.products, percent);
  const { valid, invalid, preview, header } = state;
  const columns = Object.fromEntries(
    Object.entries(state.columns).map(([field, indexes]) => [field, indexes.map((index) => header[index])]),
  );
  return noteCheck(db, batchId, { valid, invalid, percent, errors: page.errors, preview, columns });
}
