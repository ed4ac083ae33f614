import pg from "pg";

const { builtins } = pg.types;
const int8Array = 1016;
const numericArray = 1231;

/** An exact number where JavaScript has one: bigint and numeric columns hold counts and money here. */
function exactNumber(text: string): number | string {
  const value = Number(text);
  return Number.isSafeInteger(value) || String(value) === text ? value : text;
}

type ParserOf = (oid: number, format?: "text" | "binary") => (text: string) => unknown;
const defaultParser = pg.types.getTypeParser as ParserOf;
const textArray = defaultParser(1009) as (text: string) => (string | null)[];
const numberArray = (text: string) =>
  textArray(text).map((item) => (item === null ? null : exactNumber(item)));
const asText = (text: string) => text;

const parsers = new Map<number, (text: string) => unknown>([
  [builtins.INT8, exactNumber],
  [builtins.NUMERIC, exactNumber],
  [int8Array, numberArray],
  [numericArray, numberArray],
  [builtins.DATE, asText],
  [builtins.INTERVAL, asText],
]);

/** How values arrive in tests: numbers for bigint when exact, Date for timestamptz, text for date and interval. */
export const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid, format) => parsers.get(oid) ?? defaultParser(oid, format)) as ParserOf as never,
};
