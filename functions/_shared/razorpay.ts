// Razorpay's client: orders, payments, refunds. Source: https://razorpay.com/docs/api/ and its page on idempotent
// refunds.

import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Json } from "./sql/queue.ts";

const order = z.looseObject({
  id: z.string(),
  amount: z.number(),
  currency: z.string(),
  status: z.string(),
  receipt: z.string().nullish(),
});
const payment = z.looseObject({
  id: z.string(),
  order_id: z.string().nullable(),
  amount: z.number(),
  currency: z.string(),
  status: z.string(),
});
const refund = z.looseObject({
  id: z.string(),
  payment_id: z.string(),
  amount: z.number(),
  status: z.string(),
  notes: z.unknown(),
});
export type RazorpayOrder = z.infer<typeof order>;
export type RazorpayPayment = z.infer<typeof payment> & { [key: string]: Json };
export type RazorpayRefund = z.infer<typeof refund>;

const failure = z.object({ error: z.looseObject({ code: z.string(), description: z.string() }) });
const items = <S extends z.ZodType>(item: S) => z.looseObject({ items: z.array(item) });

/** `definite`: the request was understood and refused; otherwise it may have been carried out. */
export class RazorpayError extends Error {
  override readonly name = "RazorpayError";
  readonly definite: boolean;
  readonly code: string;
  /** Of an answer that says no; undefined where there was none, or one that could not be read. */
  readonly status: number | undefined;

  constructor(
    definite: boolean,
    code: string,
    message: string,
    more: { cause?: unknown; status?: number } = {},
  ) {
    super(message, { cause: more.cause });
    this.definite = definite;
    this.code = code;
    this.status = more.status;
  }
}

export interface Razorpay {
  readonly keyId: string;
  createOrder(params: {
    amount: number;
    currency: string;
    receipt: string;
    notes: Record<string, string>;
  }): Promise<RazorpayOrder>;
  order(id: string): Promise<RazorpayOrder>;
  /** The newest order with this receipt. */
  orderByReceipt(receipt: string): Promise<RazorpayOrder | null>;
  paymentsOf(orderId: string): Promise<RazorpayPayment[]>;
  payment(id: string): Promise<RazorpayPayment>;
  /** Minor units of the payment's currency; all of it. */
  capture(payment: RazorpayPayment): Promise<RazorpayPayment>;
  /** With the same key and parameters, the same refund. */
  refund(
    paymentId: string,
    params: { amount: number; notes: Record<string, string>; receipt: string },
    key: string,
  ): Promise<RazorpayRefund>;
  refundsOf(paymentId: string): Promise<RazorpayRefund[]>;
  /** Did Razorpay sign this payment of this order for its customer? */
  isSigned(orderId: string, paymentId: string, signature: string): boolean;
}

export interface RazorpayOptions {
  url: string;
  keyId: string;
  keySecret: string;
  fetch?: typeof fetch;
}

const timeoutMs = 20_000;

/** Null when the project has no account at Razorpay. */
export function razorpayOf(env: {
  RAZORPAY_API_URL: string;
  RAZORPAY_KEY_ID?: string | undefined;
  RAZORPAY_KEY_SECRET?: string | undefined;
}): Razorpay | null {
  const { RAZORPAY_API_URL: url, RAZORPAY_KEY_ID: keyId, RAZORPAY_KEY_SECRET: keySecret } = env;
  return keyId && keySecret ? createRazorpay({ url, keyId, keySecret }) : null;
}

export function createRazorpay({ url, keyId, keySecret, fetch: fetcher = fetch }: RazorpayOptions): Razorpay {
  const authorization = `Basic ${Buffer.from(`${keyId}:${keySecret}`).toString("base64")}`;

  /** Errors: RazorpayError. */
  async function call<S extends z.ZodType>(
    shape: S,
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<z.output<S>> {
    let response: Response;
    let answer: unknown;
    try {
      response = await fetcher(`${url}/v1${path}`, {
        method,
        headers: { authorization, "content-type": "application/json", ...headers },
        ...(body && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      answer = await response.json();
    } catch (error) {
      throw new RazorpayError(false, "unreachable", "Razorpay did not answer.", { cause: error });
    }
    if (!response.ok) {
      const { code, description } = failure.safeParse(answer).data?.error ?? {
        code: "SERVER_ERROR",
        description: `Razorpay answered ${response.status}.`,
      };
      // 409: the same request is still being worked on.
      const definite =
        response.status >= 400 && response.status < 500 && ![409, 429].includes(response.status);
      throw new RazorpayError(definite, code, description, { status: response.status });
    }
    const parsed = shape.safeParse(answer);
    if (!parsed.success) {
      throw new RazorpayError(false, "unexpected_answer", "Razorpay's answer is not as expected.", {
        cause: parsed.error,
      });
    }
    return parsed.data;
  }

  const id = encodeURIComponent;
  return {
    keyId,
    createOrder: (params) => call(order, "POST", "/orders", { ...params, payment: { capture: "automatic" } }),
    order: (orderId) => call(order, "GET", `/orders/${id(orderId)}`),
    orderByReceipt: async (receipt) =>
      (await call(items(order), "GET", `/orders?receipt=${id(receipt)}&count=1`)).items[0] ?? null,
    paymentsOf: async (orderId) =>
      (await call(items(payment), "GET", `/orders/${id(orderId)}/payments`)).items as RazorpayPayment[],
    payment: async (paymentId) =>
      (await call(payment, "GET", `/payments/${id(paymentId)}`)) as RazorpayPayment,
    capture: async ({ id: paymentId, amount, currency }) =>
      (await call(payment, "POST", `/payments/${id(paymentId)}/capture`, {
        amount,
        currency,
      })) as RazorpayPayment,
    refund: (paymentId, params, key) =>
      call(
        refund,
        "POST",
        `/payments/${id(paymentId)}/refund`,
        { ...params, speed: "normal" },
        { "x-refund-idempotency": key },
      ),
    refundsOf: async (paymentId) =>
      (await call(items(refund), "GET", `/payments/${id(paymentId)}/refunds?count=100`)).items,
    isSigned: (orderId, paymentId, signature) => {
      const wanted = createHmac("sha256", keySecret).update(`${orderId}|${paymentId}`).digest();
      const given = Buffer.from(/^[0-9a-f]{64}$/i.test(signature) ? signature : "", "hex");
      return given.length === wanted.length && timingSafeEqual(given, wanted);
    },
  };
}
