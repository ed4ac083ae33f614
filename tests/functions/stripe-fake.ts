import { randomUUID } from "node:crypto";
import { createStripe } from "../../functions/_shared/stripe.ts";

export interface FakeSession {
  id: string;
  object: "checkout.session";
  status: "open" | "complete" | "expired";
  payment_status: "paid" | "unpaid";
  client_reference_id: string;
  metadata: { payment_id?: string };
  amount_total: number;
  currency: string;
  url: string | null;
  created: number;
  expires_at: number;
  customer: string | null;
  payment_intent: string | null;
}

/** Enough of Stripe for checkout: create with idempotency keys, retrieve, list. Down answers 500 to all. */
export function fakeStripe(now: () => number = Date.now) {
  const sessions: FakeSession[] = [];
  const requests: { route: string; params: URLSearchParams; key: string | null }[] = [];
  const byKey = new Map<string, { params: string; session: FakeSession }>();
  const intents = new Map<string, { id: string; object: "payment_intent"; status: string }>();
  const state = { down: false };

  function create(params: URLSearchParams, key: string | null): Response {
    const known = key ? byKey.get(key) : undefined;
    if (known && known.params !== params.toString()) {
      const error = {
        type: "idempotency_error",
        message: "Keys for idempotent requests can only be used once.",
      };
      return Response.json({ error }, { status: 400 });
    }
    if (known) return Response.json(known.session);
    const id = `cs_test_${randomUUID()}`;
    const created = Math.floor(now() / 1000);
    const session: FakeSession = {
      id,
      object: "checkout.session",
      status: "open",
      payment_status: "unpaid",
      client_reference_id: params.get("client_reference_id")!,
      metadata: { payment_id: params.get("metadata[payment_id]") ?? "" },
      amount_total: Number(params.get("line_items[0][price_data][unit_amount]")),
      currency: params.get("line_items[0][price_data][currency]")!,
      url: `https://checkout.test/${id}`,
      created,
      expires_at: created + 86_400,
      customer: params.get("customer"),
      payment_intent: null,
    };
    sessions.unshift(session);
    if (key) byKey.set(key, { params: params.toString(), session });
    return Response.json(session);
  }

  function list(params: URLSearchParams): Response {
    const after = sessions.findIndex(({ id }) => id === params.get("starting_after")) + 1;
    const limit = Number(params.get("limit") ?? 10);
    const data = sessions.slice(after, after + limit);
    return Response.json({
      object: "list",
      data,
      has_more: after + limit < sessions.length,
      url: "/v1/checkout/sessions",
    });
  }

  const fetcher: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const url = new URL(request.url);
    const route = `${request.method} ${url.pathname}`;
    const params = request.method === "GET" ? url.searchParams : new URLSearchParams(await request.text());
    const key = request.headers.get("idempotency-key");
    requests.push({ route, params, key });
    if (state.down) return Response.json({ error: { type: "api_error", message: "down" } }, { status: 400 });
    if (route === "POST /v1/checkout/sessions") return create(params, key);
    if (route === "GET /v1/checkout/sessions") return list(params);
    const session = sessions.find(({ id }) => route === `GET /v1/checkout/sessions/${id}`);
    if (session) return Response.json(session);
    const intent = intents.get(route.replace("GET /v1/payment_intents/", ""));
    if (intent) return Response.json(intent);
    return Response.json(
      { error: { type: "invalid_request_error", message: "No such session" } },
      { status: 404 },
    );
  };
  return {
    stripe: createStripe("sk_test_x", "https://stripe.test", fetcher),
    sessions,
    intents,
    requests,
    state,
    pay,
  };
}

/** The customer pays on the checkout page. */
function pay(session: FakeSession): void {
  Object.assign(session, { status: "complete", payment_status: "paid", url: null, customer: "cus_1" });
  session.payment_intent = `pi_${session.id}`;
}
