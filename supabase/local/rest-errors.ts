// Errors of the database that @supabase/lite has no rule for, a failed check say: it answers 500 and leaves the code
// out. Here they are answered as PostgREST does.

export type DatabaseError = { code: string; message: string; detail?: string | null; hint?: string | null };

/** Beginnings of sqlstates with their status; of others, 400. Source: PostgREST, "Errors". */
const rules: [RegExp, number][] = [
  [/^(08|53(?!400))/, 503],
  [/^(0L|0P|28)/, 403],
  [/^(09|25|2D|38|39|3B|40|53|54|55|57|58|F0|HV|XX|P0(?!001))/, 500],
];

/** The answer to a request that failed with this error; any other answer stays as it is. */
export async function asPostgrest(answer: Response, error: DatabaseError): Promise<Response> {
  const given: unknown = await answer
    .clone()
    .json()
    .catch(() => null);
  if ((given as { code?: unknown } | null)?.code !== "SUP") return answer;
  const { code, message, detail = null, hint = null } = error;
  const status = rules.find(([states]) => states.test(code))?.[1] ?? 400;
  return Response.json({ code, message, details: detail, hint }, { status });
}
