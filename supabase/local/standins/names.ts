/** Every stand-in, in the order of their fixed ports from 54331 on. A new one goes to the end. */
export const standInNames = [
  "stripe",
  "fal",
  "shopify",
  "razorpay",
  "gemini",
  "mail",
  "meta",
  "replicate",
  "amazon",
] as const;
export type StandInName = (typeof standInNames)[number];

/** The same for each of them. */
export function forStandIns<T>(value: (name: StandInName, index: number) => T): Record<StandInName, T> {
  return Object.fromEntries(standInNames.map((name, index) => [name, value(name, index)])) as Record<
    StandInName,
    T
  >;
}
