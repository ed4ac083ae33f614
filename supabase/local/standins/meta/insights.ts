// What Instagram counts of accounts and posts. The figures follow from likes, comments and messages, so that they grow
// as people act. Source: https://developers.facebook.com/docs/instagram-platform/reference/instagram-media/insights,
// https://developers.facebook.com/docs/instagram-platform/api-reference/instagram-user/insights.

import { type Context, Hono } from "hono";
import { refuse } from "./errors.ts";
import { deadToken } from "./oauth.ts";
import type { Account, Media, MetaData } from "./state.ts";

type Figures = Record<string, number>;

export function insightRoutes(data: MetaData): Hono {
  const app = new Hono();
  app.get("/:version{v\\d+\\.\\d+}/:id/insights", (c) => {
    const account = accountOf(c, data);
    if (!account) return refuse(c, deadToken);
    const id = c.req.param("id");
    if (id === account.id) return ofAccount(c, account);
    const media = account.media.find((one) => one.id === id);
    if (!media) {
      const message = "Unsupported request: the object does not exist.";
      return refuse(c, { code: 100, subcode: 33, message });
    }
    return ofMedia(c, media);
  });
  app.get("/:version{v\\d+\\.\\d+}/:id{\\d+}", (c, next) => {
    const account = accountOf(c, data);
    if (!account) return refuse(c, deadToken);
    if (account.id !== c.req.param("id")) return next();
    const { id, username, threads } = account;
    return c.json({ id, username, followers_count: 1000 + Object.keys(threads).length });
  });
  return app;
}

function accountOf(c: Context, { tokens, accounts }: MetaData): Account | undefined {
  const bearer = /^Bearer (.+)$/.exec(c.req.header("authorization") ?? "")?.[1];
  const token = tokens[bearer ?? c.req.query("access_token") ?? ""];
  return token && token.until >= Date.now() ? accounts[token.account] : undefined;
}

const storyMetrics = ["reach", "views", "shares", "total_interactions"];

function ofMedia(c: Context, media: Media) {
  const figures = figuresOf(media);
  const metrics = (c.req.query("metric") ?? "").split(",");
  const known = media.media_product_type === "STORY" ? storyMetrics : Object.keys(figures);
  const unknown = metrics.filter((metric) => !known.includes(metric));
  if (unknown.length > 0) {
    const message = `The Media Insights API does not support the ${unknown.join(", ")} metric for this media product type.`;
    return refuse(c, { code: 100, message });
  }
  const entry = (name: string) => ({
    name,
    period: "lifetime",
    values: [{ value: figures[name] }],
    title: name,
    description: name,
    id: `${media.id}/insights/${name}/lifetime`,
  });
  return c.json({ data: metrics.map(entry) });
}

function figuresOf({ like_count, comments_count }: Media): Figures {
  const reach = 100 + 12 * like_count + 9 * comments_count;
  const [shares, saved] = [Math.floor(like_count / 5), Math.floor(like_count / 4)];
  const interactions = like_count + comments_count + shares + saved;
  const views = Math.floor(reach * 1.4);
  return {
    reach,
    views,
    likes: like_count,
    comments: comments_count,
    shares,
    saved,
    total_interactions: interactions,
  };
}

/** All of it on the day that is asked for, if that is today. */
function ofAccount(c: Context, { id, media }: Account) {
  const { metric = "", period, metric_type, since, until } = c.req.query();
  if (period !== "day" || metric_type !== "total_value" || !since || !until) {
    return refuse(c, { code: 100, message: "(#100) Incompatible metrics and period." });
  }
  const isToday = Number(since) * 1000 <= Date.now() && Date.now() < Number(until) * 1000;
  const sums: Figures = {};
  for (const figures of isToday ? media.map(figuresOf) : []) {
    for (const [name, value] of Object.entries(figures)) sums[name] = (sums[name] ?? 0) + value;
  }
  const entry = (name: string) => ({
    name,
    period: "day",
    title: name,
    description: name,
    total_value: { value: sums[name === "saves" ? "saved" : name] ?? 0 },
    id: `${id}/insights/${name}/day`,
  });
  return c.json({ data: metric.split(",").map(entry) });
}
