import type { SupabaseClient } from "@supabase/supabase-js";
import type { Database } from "../types/database.ts";

type Client = SupabaseClient<Database>;
type Creation = Database["studio"]["Tables"]["creations"]["Row"];

const micro = (amount: number) =>
  `${amount.toLocaleString("en")} micro-units ($${(amount / 100_000).toFixed(5)})`;

/** Prints what was held and captured, from which source, what is left, and whether the books balance. */
export async function printReceipt(client: Client, service: Client, creation: Creation): Promise<void> {
  const billing = client.schema("billing");
  const { data: usage, error } = await billing
    .from("usage_events")
    .select("amount_micro, captured_micro, status, sources")
    .eq("id", creation.usage_event_id!)
    .single();
  if (error) throw error;
  const { data: balance, error: balanceError } = await billing
    .rpc("balance", { workspace_id: creation.workspace_id })
    .single();
  if (balanceError) throw balanceError;
  const { data: history, error: historyError } = await billing
    .from("ledger_history")
    .select("kind, account, amount_micro, balance_after_micro")
    .eq("workspace_id", creation.workspace_id)
    .order("transaction_id");
  if (historyError) throw historyError;
  const { data: faults, error: faultsError } = await service.schema("billing").rpc("verify_ledger");
  if (faultsError) throw faultsError;

  const sources = usage.sources as { source: string; captured: number }[];
  console.log("\nReceipt");
  console.log(`  held        ${micro(usage.amount_micro)}`);
  console.log(`  captured    ${micro(usage.captured_micro)}`);
  for (const { source, captured } of sources) console.log(`    from      ${source}: ${micro(captured)}`);
  console.log(`  left        ${micro(balance.available_micro)}, held ${balance.held_micro}`);
  console.log("  ledger");
  for (const line of history) {
    const amount = (line.amount_micro! > 0 ? "+" : "") + line.amount_micro!.toLocaleString("en");
    console.log(
      `    ${line.kind!.padEnd(10)}${line.account!.padEnd(9)}${amount.padStart(10)}  balance ${line.balance_after_micro!.toLocaleString("en")}`,
    );
  }
  console.log(
    `  the ledger ${faults.length === 0 ? "balances" : `has ${faults.length} faults: ${JSON.stringify(faults[0])}`}`,
  );
  if (faults.length > 0) throw new Error("The ledger does not balance.");
}
