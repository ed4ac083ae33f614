// YouTube's notices of new, changed and deleted videos by WebSub. Scheme: `X-Hub-Signature: <method>=<hex>`, HMAC of the
// body with the secret of the subscription; the method is the one named, mostly sha1. The body is an Atom feed.
// Source: W3C WebSub; https://developers.google.com/youtube/v3/guides/push_notifications.

import { parseXml, XmlElement } from "@rgrove/parse-xml";
import { z } from "zod";
import { ApiError } from "../../_shared/errors.ts";
import {
  fromHex,
  invalidEvent,
  invalidSignature,
  isHmac,
  matching,
  missingSignature,
  type SubscribedProvider,
  textOf,
  type VerifiedEvent,
} from "./provider.ts";

const text = z.string().min(1).max(255);
/** What is stored of a new or changed video. */
export const youtubeVideo = z.object({
  video_id: text,
  channel_id: text,
  updated: text,
  published: text.optional(),
  title: z.string().optional(),
  link: z.string().optional(),
  author: z.object({ name: z.string().optional(), uri: z.string().optional() }),
});
/** What is stored of a deleted one. */
export const youtubeDeletion = z.object({ video_id: text, deleted_at: text });

export const youtubeWebhooks: SubscribedProvider = {
  name: "youtube",
  keptHeaders: ["link"],
  verify: (headers, raw, _now, { signingSecrets }) => {
    const signature = headers.get("x-hub-signature");
    if (signature === null) throw missingSignature("X-Hub-Signature");
    const [, method, hex] = /^(sha1|sha256|sha384|sha512)=(.*)$/.exec(signature) ?? [];
    if (!isHmac(fromHex(hex ?? ""), (method ?? "sha1") as "sha1", signingSecrets, raw))
      throw invalidSignature();
    return { events: feedOf(raw).flatMap(eventOf) };
  },
  // Only what we have asked for is confirmed: https://www.w3.org/TR/websub/#hub-verifies-intent
  handshake: (query, { topic, status }) => {
    const [mode, named, challenge] = ["mode", "topic", "challenge"].map((name) => query.get(`hub.${name}`));
    const isOurs = topic !== null && named !== null && channelOf(named!) === channelOf(topic);
    const wanted = status === "ended" ? "unsubscribe" : "subscribe";
    if (isOurs && mode === "denied" && status !== "ended") {
      return { events: [], change: { ended: `denied: ${query.get("hub.reason") ?? "no reason given"}` } };
    }
    if (!isOurs || mode !== wanted || !challenge) {
      throw new ApiError(404, "not_asked_for", "We have not asked for this.");
    }
    if (mode === "unsubscribe") return { events: [], answer: challenge };
    const leaseSeconds = Number(query.get("hub.lease_seconds"));
    const isLease = Number.isInteger(leaseSeconds) && leaseSeconds > 0 && leaseSeconds <= 10 * 366 * 86_400;
    return { events: [], answer: challenge, change: { confirmed: isLease ? { leaseSeconds } : {} } };
  },
};

/** A feed has two addresses, an older and a newer one. */
function channelOf(topic: string): string {
  const feed = /^https:\/\/www\.youtube\.com\/(?:xml\/)?feeds\/videos\.xml\?channel_id=([\w-]+)$/;
  return feed.exec(topic)?.[1] ?? topic;
}

/** The parser knows no document type and so no entities of its own: nothing is fetched and nothing expanded. */
function feedOf(raw: Uint8Array): XmlElement[] {
  try {
    const { root } = parseXml(textOf(raw));
    if (root?.name === "feed") return elements(root);
  } catch (error) {
    if (error instanceof ApiError) throw error;
  }
  throw invalidEvent("The body is not an Atom feed.");
}

/** A video is known by its id and when it was changed. */
function eventOf(element: XmlElement): VerifiedEvent[] {
  if (element.name === "at:deleted-entry") {
    const { ref = "", when } = element.attributes;
    const gone = matching(youtubeDeletion, { video_id: ref.replace(/^yt:video:/, ""), deleted_at: when });
    const eventId = `deleted:${gone.video_id}:${gone.deleted_at}`;
    return [{ eventId, eventType: "video.deleted", payload: JSON.stringify(gone) }];
  }
  if (element.name !== "entry") return [];
  const author = child(element, "author");
  const video = matching(youtubeVideo, {
    video_id: child(element, "yt:videoId")?.text,
    channel_id: child(element, "yt:channelId")?.text,
    updated: child(element, "updated")?.text,
    published: child(element, "published")?.text,
    title: child(element, "title")?.text,
    link: child(element, "link")?.attributes.href,
    author: { name: author && child(author, "name")?.text, uri: author && child(author, "uri")?.text },
  });
  const eventId = `${video.video_id}:${video.updated}`;
  return [{ eventId, eventType: "video.changed", payload: JSON.stringify(video) }];
}

function elements(parent: XmlElement): XmlElement[] {
  return parent.children.filter((node) => node instanceof XmlElement);
}

function child(parent: XmlElement, name: string): XmlElement | undefined {
  return elements(parent).find((element) => element.name === name);
}
