import type { GenerateRequest } from "../generate.ts";
import { garment } from "./garment.ts";
import { plain } from "./plain.ts";
import { voice } from "./voice.ts";

/** What the model says to a request, or undefined where this is not its subject. JSON text where a schema asks for it. */
export type Answer = (asked: GenerateRequest) => Promise<string | undefined>;

/** Asked in this order; the last one always has something to say. A new subject is a file and its place here. */
export const answers: readonly Answer[] = [garment, voice, plain];
