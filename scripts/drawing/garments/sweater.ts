import { line, type Point } from "../outline.ts";
import { cut, type Drawing, flipped, fold, neckline, seam } from "./cloth.ts";

export function sweater(): Drawing {
  const cx = 380;
  const outline = cut(
    [
      ...neckline(68, 40, 92),
      [80, 36],
      [120, 50],
      [164, 72],
      [196, 116],
      [232, 240],
      [270, 380],
      [300, 500],
      [304, 540],
      [298, 548],
      [246, 560],
      [240, 550],
      [234, 516],
      [206, 400],
      [162, 244],
      [160, 320],
      [158, 440],
      [160, 556],
      [152, 600],
      [146, 610],
      [0, 614],
    ],
    cx,
  );
  const bands = Array.from(
    { length: 9 },
    (_, i) => `<rect x="0" y="${132 + i * 50}" width="100%" height="22" fill="#e6cf9f"/>`,
  ).join("");
  const sleeveBands = (sign: 1 | -1) => {
    const stripes = Array.from(
      { length: 10 },
      (_, i) => `<rect x="-60" y="${70 + i * 50}" width="130" height="22" fill="#e6cf9f"/>`,
    ).join("");
    const clip: Point[] = [
      [150, 62],
      [164, 246],
      [250, 570],
      [330, 570],
      [250, 240],
      [190, 90],
    ].map(([dx, y]) => [cx + sign * (dx as number), y as number]);
    return `<clipPath id="s${sign}"><path d="M${clip.map((p) => p.join(" ")).join("L")}Z"/></clipPath>
      <g clip-path="url(#s${sign})"><rect width="100%" height="100%" fill="#26385c"/>
      <g transform="translate(${cx + sign * 176} 78) rotate(${-sign * 14.5})">${stripes}</g></g>`;
  };
  const ribs = (d: string) =>
    `<path d="${d}" fill="none" stroke="#000" stroke-opacity="0.18" stroke-width="4" stroke-dasharray="2.5 4"/>`;
  const collar = flipped(
    neckline(88, 40, 110).map(([dx, y]): Point => [cx + dx, y]),
    cx,
  );
  const armhole = flipped(
    [
      [cx + 153, 64],
      [cx + 156, 130],
      [cx + 160, 190],
      [cx + 163, 248],
    ],
    cx,
  );
  const cuffBand = (sign: 1 | -1) =>
    `<path d="M${cx + sign * 230} 520 L${cx + sign * 312} 500 L${cx + sign * 312} 560 L${cx + sign * 240} 575 Z" fill="#1f2e4d"/>`;
  return {
    size: { width: 760, height: 660 },
    outline,
    weave: 0.2,
    surface: `<rect width="100%" height="100%" fill="#26385c"/>${bands}${sleeveBands(1)}${sleeveBands(-1)}
      <path d="${collar}" fill="none" stroke="#1f2e4d" stroke-width="20"/>
      <rect x="0" y="572" width="${cx * 2}" height="60" fill="#1f2e4d" clip-path="url(#mid)"/>
      <clipPath id="mid"><rect x="${cx - 166}" y="560" width="332" height="80"/></clipPath>
      ${cuffBand(1)}${cuffBand(-1)}${ribs(
        line([
          [cx - 156, 592],
          [cx, 596],
          [cx + 156, 592],
        ]).replace("M", "M"),
      )}
      ${seam(armhole, 3, 0.45)}${seam(
        line([
          [cx - 160, 572],
          [cx + 160, 572],
        ]),
        2,
        0.35,
      )}`,
    folds: [
      fold(
        [
          [cx - 156, 252],
          [cx - 110, 300],
          [cx - 98, 390],
        ],
        14,
        false,
      ),
      fold(
        [
          [cx + 156, 252],
          [cx + 118, 310],
          [cx + 106, 400],
        ],
        14,
        false,
      ),
      fold(
        [
          [cx + 140, 250],
          [cx + 96, 300],
          [cx + 84, 370],
        ],
        12,
        true,
      ),
      fold(
        [
          [cx - 140, 250],
          [cx - 90, 296],
          [cx - 78, 370],
        ],
        12,
        true,
      ),
      fold(
        [
          [cx - 60, 570],
          [cx - 50, 480],
          [cx - 58, 420],
        ],
        16,
        false,
      ),
      fold(
        [
          [cx + 40, 570],
          [cx + 52, 500],
        ],
        16,
        true,
      ),
      fold(
        [
          [cx + 222, 330],
          [cx + 254, 316],
        ],
        9,
        false,
      ),
      fold(
        [
          [cx + 226, 352],
          [cx + 262, 346],
        ],
        9,
        true,
      ),
      fold(
        [
          [cx - 222, 330],
          [cx - 256, 322],
        ],
        9,
        false,
      ),
      fold(
        [
          [cx - 236, 390],
          [cx - 270, 382],
        ],
        10,
        true,
      ),
      fold(
        [
          [cx + 248, 440],
          [cx + 282, 430],
        ],
        9,
        false,
      ),
    ].join(""),
  };
}
