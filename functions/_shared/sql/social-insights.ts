// What a platform counts of accounts and posts: SQL functions of the schema social, typed.

import type { Database, Statement } from "../db.ts";

export interface Figures {
  reach?: number;
  views?: number;
  likes?: number;
  comments?: number;
  shares?: number;
  saves?: number;
  interactions?: number;
  /** Of an account alone. */
  followers?: number;
}

export interface PostToRead {
  post_id: string;
  platform_post_id: string;
  media_type: string | null;
}

const statements = {
  posts: {
    name: "posts_to_read",
    text: "select post_id, platform_post_id, media_type from social.posts_to_read($1)",
    repeatable: true,
  },
  keep: {
    name: "keep_insights",
    text: "select social.keep_insights($1, $2::jsonb, $3::jsonb) as kept",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

export function postsToRead(db: Database, accountId: string): Promise<PostToRead[]> {
  return db.rows<PostToRead>(statements.posts, [accountId]);
}

/** Keeps an account's figures by day and its posts' as of now; returns of how many posts. */
export async function keepInsights(
  db: Database,
  accountId: string,
  days: Record<string, Figures>,
  posts: ({ post_id: string } & Figures)[],
): Promise<number> {
  const values = [accountId, JSON.stringify(days), JSON.stringify(posts)];
  return (await db.row<{ kept: number }>(statements.keep, values)).kept;
}
