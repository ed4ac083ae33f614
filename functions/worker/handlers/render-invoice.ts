import { z } from "zod";
import { invoiceDocument, noteInvoicePdf } from "../../_shared/sql/money.ts";
import { invoicePdf } from "../documents/invoice-pdf.ts";
import { completed, type Handler, JobError } from "../job.ts";
import type { Storage } from "../storage.ts";

const payload = z.object({ invoice_id: z.uuid() });

/** billing.render_invoice: writes the PDF to billing-documents/<workspace>/<invoice>.pdf and notes where it is. */
export function renderInvoice(storage: Storage, issuer: string): Handler {
  return async (job, { db }) => {
    const { invoice_id } = payload.parse(job.payload);
    const invoice = await invoiceDocument(db, invoice_id);
    if (!invoice) throw new JobError("unknown_invoice", "The invoice is gone.", { retry: false });
    const path = `${invoice.workspace_id}/${invoice.id}.pdf`;
    await storage.upload("billing-documents", path, await invoicePdf(invoice, issuer), "application/pdf");
    await noteInvoicePdf(db, invoice_id, path);
    return completed({ path });
  };
}
