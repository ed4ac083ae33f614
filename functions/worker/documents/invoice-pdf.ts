// An invoice or credit note as one or more pages of PDF (A4, points of 1/72 inch). The standard fonts know Western
// European letters only: others become question marks, and the invoice's row has the text as it is.

import { PDFDocument, type PDFFont, type PDFPage, rgb, StandardFonts } from "@cantoo/pdf-lib";
import { formatMinor } from "../../_shared/money.ts";
import type { InvoiceDocument } from "../../_shared/sql/money.ts";

const page = { width: 595, height: 842, margin: 56 };
const grey = rgb(0.4, 0.4, 0.4);
const titles = { invoice: "Invoice", credit_note: "Credit note" };

type Fonts = { plain: PDFFont; bold: PDFFont };

/** The document's bytes; the same invoice gives the same page. */
export async function invoicePdf(invoice: InvoiceDocument, issuer: string): Promise<Uint8Array<ArrayBuffer>> {
  const pdf = await PDFDocument.create();
  const fonts = {
    plain: await pdf.embedFont(StandardFonts.Helvetica),
    bold: await pdf.embedFont(StandardFonts.HelveticaBold),
  };
  const title = `${titles[invoice.kind]} ${invoice.number}`;
  pdf.setTitle(title);
  pdf.setAuthor(latin(issuer));
  pdf.setCreationDate(invoice.issued_at);
  pdf.setModificationDate(invoice.issued_at);
  const sheet = new Sheet(pdf, fonts);
  sheet.line(issuer, { size: 11, color: grey });
  sheet.line(titles[invoice.kind], { size: 24, bold: true });
  for (const [name, value] of facts(invoice)) sheet.pair(name, value);
  sheet.gap(14);
  sheet.line("To", { size: 9, color: grey });
  for (const line of recipient(invoice)) sheet.line(line);
  sheet.gap(22);
  const amount = (minor: number) => `${invoice.currency} ${formatMinor(minor, invoice.exponent)}`;
  sheet.row("Description", "Amount", true);
  for (const { description, quantity, amount_minor } of invoice.lines) {
    sheet.row(`${description ?? ""}${quantity === 1 ? "" : ` x ${quantity}`}`, amount(amount_minor));
  }
  sheet.gap(8);
  if (invoice.tax_minor > 0) sheet.row("Tax included", amount(invoice.tax_minor));
  sheet.row(invoice.kind === "invoice" ? "Total paid" : "Total returned", amount(invoice.total_minor), true);
  // A copy: the library types its result as any buffer's.
  return new Uint8Array(await pdf.save());
}

function facts({ number, issued_at, invoice_number }: InvoiceDocument): [string, string][] {
  return [
    ["Number", number],
    ["Date", issued_at.toISOString().slice(0, 10)],
    ...(invoice_number ? [["For invoice", invoice_number] as [string, string]] : []),
  ];
}

function recipient({ customer }: InvoiceDocument): string[] {
  const { name, address, email, tax_id } = customer;
  const lines = [name, ...(address?.split("\n") ?? []), email, tax_id && `Tax id ${tax_id}`];
  return lines.filter((line): line is string => line !== undefined && line !== "");
}

/** What the standard fonts can show (Windows-1252). */
function latin(text: string): string {
  const composed = text.normalize("NFC").replaceAll(/\s/gu, " ");
  return composed.replaceAll(/[^\x20-\x7e\u00a1-\u00ff€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]/gu, "?");
}

/** Writes from the top down, and goes on to another page. */
class Sheet {
  #pdf: PDFDocument;
  #fonts: Fonts;
  #page: PDFPage;
  #y = 0;

  constructor(pdf: PDFDocument, fonts: Fonts) {
    this.#pdf = pdf;
    this.#fonts = fonts;
    this.#page = this.#next();
  }

  line(text: string, { size = 10, bold = false, color = rgb(0, 0, 0) } = {}): void {
    const font = bold ? this.#fonts.bold : this.#fonts.plain;
    for (const part of wrapped(latin(text), font, size, page.width - 2 * page.margin)) {
      this.gap(size * 1.45);
      this.#page.drawText(part, { x: page.margin, y: this.#y, size, font, color });
    }
  }

  pair(name: string, value: string): void {
    this.gap(15);
    this.#page.drawText(name, { x: page.margin, y: this.#y, size: 10, font: this.#fonts.plain, color: grey });
    this.#page.drawText(latin(value), { x: 150, y: this.#y, size: 10, font: this.#fonts.plain });
  }

  /** A description on the left, an amount that ends at the right margin. */
  row(description: string, amount: string, bold = false): void {
    const font = bold ? this.#fonts.bold : this.#fonts.plain;
    const end = page.width - page.margin;
    for (const [index, part] of wrapped(latin(description), font, 10, 330).entries()) {
      this.gap(18);
      this.#page.drawText(part, { x: page.margin, y: this.#y, size: 10, font });
      if (index > 0) continue;
      const x = end - font.widthOfTextAtSize(amount, 10);
      this.#page.drawText(amount, { x, y: this.#y, size: 10, font });
    }
    const line = { start: { x: page.margin, y: this.#y - 6 }, end: { x: end, y: this.#y - 6 } };
    this.#page.drawLine({ ...line, thickness: 0.5, color: grey });
  }

  gap(points: number): void {
    this.#y -= points;
    if (this.#y < page.margin) {
      this.#page = this.#next();
      this.#y -= points;
    }
  }

  #next(): PDFPage {
    this.#y = page.height - page.margin;
    return this.#pdf.addPage([page.width, page.height]);
  }
}

/** Breaks at spaces; a word longer than the line is cut. */
function wrapped(text: string, font: PDFFont, size: number, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (let word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (font.widthOfTextAtSize(longer, size) <= width) {
      line = longer;
      continue;
    }
    if (line !== "") lines.push(line);
    while (font.widthOfTextAtSize(word, size) > width) {
      let cut = word.length - 1;
      while (font.widthOfTextAtSize(word.slice(0, cut), size) > width) cut--;
      lines.push(word.slice(0, cut));
      word = word.slice(cut);
    }
    line = word;
  }
  return [...lines, line];
}
