// Errors that edge functions add to those of the database, with what to do about each where the answer says nothing
// more exact. docs/reference/errors.md lists them.

export const functionErrors: Record<string, { status: number; hint: string }> = {
  access_denied: { status: 400, hint: "Begin again, and agree at the provider." },
  answer_too_slow: { status: 504, hint: "Ask again with a new key, or more briefly." },
  assistant_not_set_up: { status: 503, hint: "Set GEMINI_API_KEY." },
  card_declined: { status: 402, hint: "Pay with another card: the customer portal takes one." },
  internal_error: {
    status: 500,
    hint: "Try again; if it stays, tell us the x-request-id of this answer.",
  },
  invalid_json: { status: 400, hint: "Send a JSON object." },
  invalid_signature: { status: 401, hint: "Hand on what the provider sent, unchanged." },
  no_customer: { status: 404, hint: "Start a checkout first." },
  payload_too_large: { status: 413, hint: "Send less: the message says how much is taken." },
  payment_provider_unavailable: {
    status: 502,
    hint: "Send the same request again; nothing is charged twice.",
  },
  provider_not_configured: { status: 404, hint: "Pay through another provider, or set this one up." },
  provider_refused: { status: 502, hint: "Begin again; if it stays, the provider may have a problem." },
  provider_rejected: { status: 422, hint: "Ask in other words." },
  provider_unavailable: { status: 503, hint: "Ask again in a minute, with a new key." },
  refused_by_provider: { status: 409, hint: "Correct what the message names; nothing has been changed." },
  storage_unavailable: { status: 503, hint: "Send the same request again in a few seconds." },
  temporarily_unavailable: { status: 503, hint: "Send the same request again in a few seconds." },
  unknown_route: { status: 404, hint: "Compare method and path with the documentation of the function." },
};
