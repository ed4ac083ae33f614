import { dress } from "./dress.ts";
import { sweater } from "./sweater.ts";
import { tee } from "./tee.ts";
import { trousers } from "./trousers.ts";

export const garments = { tee: tee(), sweater: sweater(), dress: dress(), trousers: trousers() };
