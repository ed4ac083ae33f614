import { z } from "zod";
import { type InstagramClient, InstagramError } from "../../_shared/instagram.ts";
import { type Figures, keepInsights, postsToRead } from "../../_shared/sql/social-insights.ts";
import { type InstagramDeps, withAccount } from "../instagram/account.ts";
import { completed, type Handler, LeaseLost } from "../job.ts";

const payload = z.object({ account_id: z.uuid() });
const dayMs = 86_400_000;

/** Instagram's names of ours. Stories have fewer; what an account has saved is called saves there. */
const names: Readonly<Record<string, keyof Figures>> = {
  reach: "reach",
  views: "views",
  likes: "likes",
  comments: "comments",
  shares: "shares",
  saved: "saves",
  saves: "saves",
  total_interactions: "interactions",
};
const storyMetrics = ["reach", "views", "shares", "total_interactions"];
const mediaMetrics = [...storyMetrics, "likes", "comments", "saved"];
const accountMetrics = [...storyMetrics, "likes", "comments", "saves"];

/**
 * social.insights: reads what Instagram counts of an account yesterday and today, which still changes, and of its newest
 * posts. A post of which it does not tell (too few have seen it) is left out; without the permission nothing is read.
 */
export function readInsights(deps: InstagramDeps): Handler {
  return async (job, context) => {
    const { db, now, checkpoint } = context;
    const { account_id } = payload.parse(job.payload);
    return withAccount(deps, context, account_id, async ({ client }) => {
      const account = await accountFigures(client, now());
      if (account === null) return completed({ skipped: "not_permitted" });
      const posts = await postsToRead(db, account_id);
      const figures = [];
      for (const [index, { post_id, platform_post_id, media_type }] of posts.entries()) {
        const metrics = media_type === "story" ? storyMetrics : mediaMetrics;
        const read = await unlessRefused(client.insights(platform_post_id, { metric: metrics.join(",") }));
        if (read) figures.push({ post_id, ...figuresOf(read) });
        const progress = Math.floor((100 * (index + 1)) / (posts.length + 1));
        if (index % 10 === 9 && !(await checkpoint({ progress }))) throw new LeaseLost();
      }
      const kept = await keepInsights(db, account_id, account, figures);
      return completed({ posts: kept, left_out: posts.length - kept });
    });
  };
}

/** By day; null where the account has not given the permission. */
async function accountFigures(client: InstagramClient, now: number): Promise<Record<string, Figures> | null> {
  const today = Math.floor(now / dayMs) * dayMs;
  const days: Record<string, Figures> = {};
  for (const from of [today - dayMs, today]) {
    const span = { since: String(from / 1000), until: String((from + dayMs) / 1000) };
    const query = { metric: accountMetrics.join(","), period: "day", metric_type: "total_value", ...span };
    const read = await unlessRefused(client.insights(null, query));
    if (!read) return null;
    days[new Date(from).toISOString().slice(0, 10)] = figuresOf(read);
  }
  const followers = await client.followers();
  if (followers !== null) days[new Date(today).toISOString().slice(0, 10)]!.followers = followers;
  return days;
}

function figuresOf(read: Record<string, number>): Figures {
  const figures: Figures = {};
  for (const [name, value] of Object.entries(read)) {
    const ours = names[name];
    if (ours !== undefined) figures[ours] = value;
  }
  return figures;
}

async function unlessRefused<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof InstagramError && ["not_permitted", "refused"].includes(error.fault)) return null;
    throw error;
  }
}
