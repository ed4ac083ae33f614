import { z } from "zod";
import type { Vision } from "../../_shared/ai/vision.ts";
import { findAnalysis } from "../../_shared/sql/pictures.ts";
import { completed, type Handler, JobError } from "../job.ts";
import { typeOf } from "../pictures/format.ts";
import {
  garmentInstruction,
  garmentMetadata,
  garmentSchema,
  seenSide,
} from "../pictures/garment-metadata.ts";
import { Unreadable } from "../pictures/magick.ts";
import { readObject } from "../pictures/read.ts";
import { jobErrorOf } from "./embed-knowledge.ts";
import type { PictureDeps } from "./pictures.ts";

export interface AnalysisDeps extends PictureDeps {
  /** Null where no model is set up. */
  vision: Vision | null;
}

const payload = z.object({ analysis_id: z.uuid() });

/** studio.analyze_garment: shows a model the picture, small and on white, and hands on what it sees. */
export function analyzeGarment(deps: AnalysisDeps): Handler {
  return async (job, { db, signal }) => {
    const { vision, pictures } = deps;
    const { analysis_id } = payload.parse(job.payload);
    const subject = await findAnalysis(db, analysis_id);
    if (!subject) throw new JobError("unknown_garment", "The garment has been deleted.", { retry: false });
    if (!vision) {
      throw new JobError("analysis_not_set_up", "No model that looks at pictures is set up.", {
        retry: false,
      });
    }
    const bytes = await readObject(deps, { ...subject, most: subject.max_bytes }, signal);
    const type = typeOf(bytes);
    if (!type)
      throw new JobError("image_type", "The file is not a PNG, JPEG or WebP picture.", { retry: false });
    const jpeg = await pictures.jpeg(bytes, type, seenSide).catch((error: unknown) => {
      if (!(error instanceof Unreadable)) throw error;
      throw new JobError("image_unreadable", "The picture cannot be read.", { retry: false, cause: error });
    });
    const question = {
      instruction: garmentInstruction,
      jpeg,
      schema: garmentSchema,
      shape: garmentMetadata,
    };
    const { answer, version } = await vision.look(question, signal).catch((error: unknown) => {
      throw jobErrorOf(error);
    });
    return completed({ metadata: answer, analyzer_version: version });
  };
}
