import type { Attack } from "./attack.ts";

const id = "00000000-0000-4000-8000-000000000000";

/** For staff alone, whoever else asks. */
export const staff: Attack[] = [
  [
    "private.set_suspension",
    ({ victim }) => ({ user_id: victim.id, suspended: true, reason: "x" }),
    "not_staff",
    "PT403",
  ],
  ["private.delete_qa_spec", () => ({ id }), "not_staff", "PT403"],
  [
    "private.save_qa_spec",
    () => ({ id: null, spec: { name: "x", nl_spec: "Open it." } }),
    "not_staff",
    "PT403",
  ],
  [
    "private.request_qa_run",
    () => ({
      name: "x",
      environment: "staging",
      target_app: null,
      spec_ids: null,
      tags: null,
      base_url: null,
    }),
    "not_staff",
    "PT403",
  ],
];
