// CSV as RFC 4180 has it (comma, CRLF, quotes doubled), safe to open in a spreadsheet.

export type Cell = string | number | boolean | null | undefined;

// A cell that begins so is taken for a formula. Source: OWASP, CSV Injection.
const formula = /^[\s\0]*[=+\-@＝＋－＠]|^[\t\r\n]/;
const plain = /^[\p{L}\p{N} ._:/#()+-]*$/u;

/** One line with its line break. Numbers are written as they are; text that looks like a formula gets a quote before it. */
export function csvLine(cells: readonly Cell[]): string {
  return `${cells.map(csvCell).join(",")}\r\n`;
}

function csvCell(cell: Cell): string {
  if (cell === null || cell === undefined) return "";
  if (typeof cell !== "string") return String(cell);
  const text = formula.test(cell) ? `'${cell}` : cell;
  return plain.test(text) ? text : `"${text.replaceAll('"', '""')}"`;
}

/**
 * A body that asks for its next piece only when the last one has been sent, so that a table of any length takes the
 * memory of one piece. `first` has been read already; `failed` hears of an error after that, which cuts the answer off.
 */
export function csvBody(
  first: string,
  rest: AsyncGenerator<string, void>,
  failed: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => controller.enqueue(encoder.encode(first)),
      pull: async (controller) => {
        try {
          const { done, value } = await rest.next();
          if (done) controller.close();
          else controller.enqueue(encoder.encode(value));
        } catch (error) {
          failed(error);
          controller.error(error);
        }
      },
      cancel: async () => {
        await rest.return();
      },
    },
    { highWaterMark: 1 },
  );
}
