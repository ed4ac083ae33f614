import fc from "fast-check";
import { expect, test } from "vitest";
import { csvBody, csvLine } from "../../functions/billing/csv.ts";

/** Reads CSV as RFC 4180 has it. */
function parse(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const field = /"((?:[^"]|"")*)"|([^",\r\n]*)/y;
  for (let at = 0; at < text.length; ) {
    field.lastIndex = at;
    const [whole, quoted, bare] = field.exec(text)!;
    row.push(quoted?.replaceAll('""', '"') ?? bare ?? "");
    at += whole.length;
    if (text.startsWith("\r\n", at)) {
      rows.push(row);
      row = [];
      at += 2;
    } else if (text[at] === ",") at++;
    else throw new Error(`"${text[at]}" at ${at} is no separator.`);
  }
  return rows;
}

test("text is quoted when it must be, numbers never", () => {
  expect(csvLine(["a b", 'say "hi"', "x,y", "x;y", "two\r\nlines", -5, 1.25, null, undefined, true])).toBe(
    'a b,"say ""hi""","x,y","x;y","two\r\nlines",-5,1.25,,,true\r\n',
  );
});

test.each(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", '=HYPERLINK("http://x","y")'])(
  "%j is no formula any more",
  (text) => {
    expect(parse(csvLine([text]))).toEqual([[`'${text}`]]);
  },
);

test("what is written is what is read, but for the guard before formulas", () => {
  const text = fc.oneof(fc.string(), fc.constantFrom("=", "-1", '"', ",", "\r\n", "\n", "a=b", "'"));
  fc.assert(
    fc.property(fc.array(fc.array(text, { minLength: 1 }), { minLength: 1 }), (table) => {
      const read = parse(table.map(csvLine).join(""));
      expect(
        read.map((row) => row.map((cell) => cell.replace(/^'(?=[\s\0]*[=+\-@＝＋－＠]|[\t\r\n])/, ""))),
      ).toEqual(
        table.map((row) => row.map((cell) => cell.replace(/^'(?=[\s\0]*[=+\-@＝＋－＠]|[\t\r\n])/, ""))),
      );
    }),
  );
});

test("a body is read only as fast as it is taken, and left off when its reader leaves", async () => {
  let made = 0;
  let left = false;
  async function* pieces() {
    try {
      for (;;) yield `${made++}\r\n`;
    } finally {
      left = true;
    }
  }
  const reader = csvBody("first\r\n", pieces(), () => {}).getReader();
  const read = async () => new TextDecoder().decode((await reader.read()).value);
  expect(await read()).toBe("first\r\n");
  await new Promise((resolve) => setImmediate(resolve));
  expect(made).toBeLessThanOrEqual(1);
  expect([await read(), await read()]).toEqual(["0\r\n", "1\r\n"]);
  expect(made).toBeLessThanOrEqual(3);
  await reader.cancel();
  expect(left).toBe(true);
});

test("an error on the way cuts the body off and is heard of", async () => {
  const heard: unknown[] = [];
  // biome-ignore lint/correctness/useYield: it fails before it has anything
  async function* broken(): AsyncGenerator<string, void> {
    throw new Error("gone");
  }
  const body = csvBody("first\r\n", broken(), (error) => heard.push(error));
  await expect(new Response(body).text()).rejects.toThrow("gone");
  expect(heard).toHaveLength(1);
});
