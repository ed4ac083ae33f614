import type { Database, Statement } from "../db.ts";

export type PictureKind = "garment" | "model" | "creation";

/** What a picture may be, in bytes and pixels. */
export interface PictureRules {
  max_bytes: number;
  min_side: number;
  max_side: number;
  /** Of a JPEG, which is decoded at a part of its size. */
  max_pixels: number;
  /** Of a PNG or WebP, which is decoded whole. */
  max_pixels_whole: number;
}

/** A picture that a job looks at. */
export interface PictureSubject {
  workspace_id: string;
  bucket: string;
  path: string;
  /** Where it is fetched from first; null: it was uploaded. */
  source_url: string | null;
  /** In studio-results. */
  thumbnail_path: string;
  /** Null for what we made ourselves. */
  rules: PictureRules | null;
}

const find: Statement = {
  name: "picture",
  text: "select * from studio.picture_of($1, $2, $3)",
  repeatable: true,
};

/** Null when the picture is gone, or is to be looked at by a later job. */
export async function findPicture(
  db: Database,
  { kind, id, version }: { kind: PictureKind; id: string; version: number },
): Promise<PictureSubject | null> {
  const [subject] = await db.rows<PictureSubject>(find, [kind, id, version]);
  return subject ?? null;
}

const again = {
  garment: {
    name: "garment_again",
    text: "select a.id from studio.wardrobe_garments g cross join lateral studio.recheck_garment(g.id) a where g.id = $1",
  },
  model: {
    name: "model_again",
    text: "select a.id from studio.models m cross join lateral studio.recheck_model(m.id) a where m.id = $1",
  },
} satisfies Record<string, Statement>;

/** Has a garment's or model's picture looked at anew; nothing happens when that is gone. */
export async function lookAgain(
  db: Database,
  { kind, id }: { kind: PictureKind; id: string },
): Promise<void> {
  if (kind !== "creation") await db.rows(again[kind], [id]);
}

/** The picture that an analysis is of. */
export interface AnalysisSubject {
  workspace_id: string;
  bucket: string;
  path: string;
  max_bytes: number;
}

const findOpenAnalysis: Statement = {
  name: "analysis",
  text: "select * from studio.analysis_of($1)",
  repeatable: true,
};

/** Null when its garment is gone or it has ended. */
export async function findAnalysis(db: Database, id: string): Promise<AnalysisSubject | null> {
  const [subject] = await db.rows<AnalysisSubject>(findOpenAnalysis, [id]);
  return subject ?? null;
}
