// How many random histories a test takes, and which. The tests take the same ones each time, so that what fails is what
// was changed; `npm run bench:properties` takes others each time, and many more.

export const seed = Number(process.env.PROPERTY_SEED ?? 20_261_121);
const factor = Number(process.env.PROPERTY_FACTOR ?? 1);

/** For fc.assert: so many histories; on a busy machine fewer after so many seconds, rather than a failure. */
export function histories(count: number, most: { seconds?: number } = {}) {
  const limit = most.seconds !== undefined &&
    factor === 1 && { interruptAfterTimeLimit: most.seconds * 1000 };
  return { seed, numRuns: count * factor, ...limit };
}

/** The time limit of a test whose histories may take so many seconds. */
export const secondsFor = (seconds: number) => seconds * 1000 * factor;
