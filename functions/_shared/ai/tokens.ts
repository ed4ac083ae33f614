// How many tokens a model would count, without its vocabulary: near enough to cut texts and to hold a price, and
// rather too many than too few. Tokenizers of today make about one token of four Latin letters.

const pieces = /[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu;
const ideographs = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]/u;
const latin = /^[\p{Script=Latin}\p{N}\p{M}]+$/u;

export function estimateTokens(text: string): number {
  let tokens = 0;
  for (const [piece] of text.matchAll(pieces)) {
    if (piece.length === 1) tokens += 1;
    else if (ideographs.test(piece)) tokens += piece.length;
    else tokens += Math.ceil(piece.length / (latin.test(piece) ? 4 : 2));
  }
  return tokens;
}
