import { z } from "zod";
import type { Media } from "../../_shared/instagram.ts";
import {
  applyPosts,
  findSyncBegin,
  finishPostSync,
  noteSubscription,
  type PostInput,
} from "../../_shared/sql/social.ts";
import { type InstagramDeps, withAccount } from "../instagram/account.ts";
import { completed, type Handler, waiting } from "../job.ts";

const payload = z.object({ account_id: z.uuid() });
const progress = z.object({ seen: z.string(), after: z.string(), calls: z.number().int() });

/** Pages that one attempt reads before it lets others work. */
const mostPages = 20;

/** What the bot lives on. Source: https://developers.facebook.com/docs/instagram-platform/webhooks. */
export const webhookFields = [
  "comments",
  "live_comments",
  "messages",
  "message_reactions",
  "messaging_postbacks",
  "messaging_seen",
] as const;

/** social.subscribe: has Instagram tell of the account; asked again, it changes nothing. */
export function subscribeAccount(deps: InstagramDeps): Handler {
  return async (job, context) => {
    const { account_id } = payload.parse(job.payload);
    return withAccount(deps, context, account_id, async ({ client }) => {
      const fields = await client.subscribe(webhookFields);
      await noteSubscription(context.db, account_id, fields);
      return completed({ fields });
    });
  };
}

/** social.sync_posts: reads the posts of an account page by page; a page that is read twice changes nothing. */
export function syncPosts(deps: InstagramDeps): Handler {
  return async (job, context) => {
    const { account_id } = payload.parse(job.payload);
    return withAccount(deps, context, account_id, async ({ client }) => {
      const saved = progress.safeParse(job.checkpoint).data;
      const seen = saved?.seen ?? (await findSyncBegin(context.db, account_id))?.toISOString();
      if (seen === undefined) return completed({ ignored: true });
      let after: string | null = saved?.after ?? "";
      let calls = saved?.calls ?? 0;
      for (let pages = 0; after !== null; pages++) {
        if (pages === mostPages) return waiting({ poll_in: 0, checkpoint: { seen, after, calls } });
        const page = await client.media(after === "" ? undefined : after);
        calls++;
        await applyPosts(context.db, account_id, page.media.map(postOf), new Date(seen));
        after = page.after;
        if (after !== null && !(await context.checkpoint({ checkpoint: { seen, after, calls } }))) {
          return completed({ status: "ended" });
        }
      }
      await finishPostSync(context.db, account_id, new Date(seen), calls);
      return completed({ calls });
    });
  };
}

const types: Readonly<Record<string, string>> = {
  IMAGE: "image",
  VIDEO: "video",
  CAROUSEL_ALBUM: "carousel_album",
};
const products: Readonly<Record<string, string>> = { REELS: "reels", STORY: "story" };

function postOf(media: Media): PostInput {
  const urls = [media.media_url, ...(media.children?.data ?? []).map(({ media_url }) => media_url)];
  return {
    platform_post_id: media.id,
    platform_url: media.permalink ?? null,
    caption: media.caption ?? null,
    media_type: products[media.media_product_type ?? ""] ?? types[media.media_type ?? ""] ?? null,
    media_urls: [...new Set(urls.filter((url) => url !== undefined))],
    thumbnail_url: media.thumbnail_url ?? media.media_url ?? null,
    like_count: media.like_count ?? 0,
    comment_count: media.comments_count ?? 0,
    view_count: media.view_count ?? 0,
    posted_at: new Date(Date.parse(media.timestamp)).toISOString(),
  };
}
