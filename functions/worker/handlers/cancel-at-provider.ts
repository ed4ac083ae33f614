import { completed, type Handler, JobError } from "../job.ts";
import { type CreationProvider, submission } from "../providers/provider.ts";

/** studio.cancel_at_provider: asks the provider to stop a run whose creation has been cancelled or given up. */
export function cancelAtProvider(providers: Readonly<Record<string, CreationProvider>>): Handler {
  return async (job, { signal }) => {
    const run = submission.parse(job.payload);
    const provider = Object.hasOwn(providers, run.provider) ? providers[run.provider] : undefined;
    if (!provider)
      throw new JobError("unknown_provider", `There is no provider "${run.provider}".`, { retry: false });
    return completed({ status: await provider.cancel(run, signal) });
  };
}
