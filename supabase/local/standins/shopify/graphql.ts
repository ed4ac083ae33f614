import { execute, parse, validate } from "graphql";
import type { Context } from "hono";
import { actualCost, mostPerQuery, refill, requestedCost, throttleStatus } from "./cost.ts";
import { rootOf } from "./resolvers.ts";
import { schema } from "./schema.ts";
import type { Shop } from "./state.ts";

/** POST /admin/api/<version>/graphql.json, for a caller whose token has been checked. Errors come with status 200. */
export async function answerQuery(
  c: Context,
  shop: Shop,
  nextId: () => string,
  changed: () => void,
  more: object = {},
) {
  const { query = "", variables = {} } = (await c.req.json()) as {
    query?: string;
    variables?: Record<string, unknown>;
  };
  let document: ReturnType<typeof parse>;
  try {
    document = parse(query);
  } catch (error) {
    return c.json({ errors: [{ message: (error as Error).message }] });
  }
  const faults = validate(schema, document);
  if (faults.length > 0) return c.json({ errors: faults.map(({ message }) => ({ message })) });

  const requestedQueryCost = requestedCost(document, variables);
  const cost = (actualQueryCost: number | null) => ({
    requestedQueryCost,
    actualQueryCost,
    throttleStatus: throttleStatus(shop),
  });
  if (requestedQueryCost > mostPerQuery) {
    const message = `Query cost is ${requestedQueryCost}, which exceeds the single query max cost limit (${mostPerQuery}).`;
    const extensions = { code: "MAX_COST_EXCEEDED", cost: requestedQueryCost, maxCost: mostPerQuery };
    return c.json({ errors: [{ message, extensions }], extensions: { cost: cost(null) } });
  }
  refill(shop);
  if (requestedQueryCost > shop.bucket.available) {
    const error = { message: "Throttled", extensions: { code: "THROTTLED" } };
    return c.json({ errors: [error], extensions: { cost: cost(null) } });
  }
  const answer = await execute({
    schema,
    document,
    rootValue: { ...rootOf(shop, nextId), ...more },
    variableValues: variables,
  });
  const actual = Math.min(requestedQueryCost, actualCost(answer.data));
  shop.bucket.available -= actual;
  changed();
  return c.json({ ...answer, extensions: { cost: cost(actual) } });
}
