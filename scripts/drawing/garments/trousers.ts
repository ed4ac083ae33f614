import { line } from "../outline.ts";
import { cut, type Drawing, flipped, fold, seam, stitches } from "./cloth.ts";

export function trousers(): Drawing {
  const cx = 250;
  const outline = cut(
    [
      [0, 34],
      [100, 30],
      [104, 36],
      [110, 80],
      [124, 150],
      [134, 230],
      [136, 320],
      [130, 480],
      [122, 640],
      [116, 800],
      [112, 812],
      [36, 816],
      [32, 808],
      [28, 640],
      [22, 480],
      [12, 330],
      [6, 282],
      [0, 276],
    ],
    cx,
  );
  const waist = line([
    [cx - 112, 66],
    [cx, 72],
    [cx + 112, 66],
  ]);
  const pocket = flipped(
    [
      [cx + 52, 70],
      [cx + 66, 104],
      [cx + 92, 122],
      [cx + 120, 128],
    ],
    cx,
  );
  const fly = line([
    [cx, 70],
    [cx + 4, 160],
    [cx, 276],
  ]);
  const flyStitch = line([
    [cx + 22, 72],
    [cx + 23, 150],
    [cx + 4, 196],
  ]);
  const loop = (x: number) =>
    `<rect x="${x - 5}" y="30" width="10" height="42" rx="2" fill="#3d5578" stroke="#22324c" stroke-width="1.5"/>`;
  const fade = [-1, 1]
    .map(
      (s) =>
        `<ellipse cx="${cx + s * 76}" cy="330" rx="26" ry="150" fill="#a9c0dd" fill-opacity="0.35" filter="url(#soft12)"/>`,
    )
    .join("");
  return {
    size: { width: 500, height: 850 },
    outline,
    weave: 0.05,
    surface: `<rect width="100%" height="100%" fill="#46618a"/>${fade}
      ${seam(waist, 2.5)}${stitches(
        line([
          [cx - 112, 40],
          [cx, 44],
          [cx + 112, 40],
        ]),
      )}${seam(pocket, 2.5, 0.5)}${stitches(pocket)}
      ${seam(fly, 2.5, 0.5)}${stitches(flyStitch)}${[-78, -30, 30, 78].map((dx) => loop(cx + dx)).join("")}
      <circle cx="${cx + 8}" cy="54" r="7" fill="#c9a25c" stroke="#6d5424" stroke-width="1.5"/>
      ${stitches(
        flipped(
          [
            [cx + 106, 90],
            [cx + 128, 230],
            [cx + 128, 330],
            [cx + 116, 640],
            [cx + 110, 812],
          ],
          cx,
        ),
      )}
      ${stitches(
        flipped(
          [
            [cx + 34, 792],
            [cx + 116, 790],
          ],
          cx,
        ),
      )}`,
    folds: [
      fold(
        [
          [cx + 6, 272],
          [cx + 50, 250],
          [cx + 100, 256],
        ],
        12,
        false,
      ),
      fold(
        [
          [cx - 6, 272],
          [cx - 50, 248],
          [cx - 96, 250],
        ],
        12,
        false,
      ),
      fold(
        [
          [cx + 8, 296],
          [cx + 52, 284],
          [cx + 90, 300],
        ],
        11,
        true,
      ),
      fold(
        [
          [cx - 8, 296],
          [cx - 52, 284],
          [cx - 96, 292],
        ],
        11,
        true,
      ),
      fold(
        [
          [cx + 40, 520],
          [cx + 76, 506],
          [cx + 112, 524],
        ],
        12,
        false,
      ),
      fold(
        [
          [cx + 46, 546],
          [cx + 84, 534],
          [cx + 112, 548],
        ],
        12,
        true,
      ),
      fold(
        [
          [cx - 40, 528],
          [cx - 80, 512],
          [cx - 112, 520],
        ],
        12,
        false,
      ),
      fold(
        [
          [cx - 46, 552],
          [cx - 84, 542],
          [cx - 112, 552],
        ],
        12,
        true,
      ),
      fold(
        [
          [cx + 44, 776],
          [cx + 76, 764],
          [cx + 104, 774],
        ],
        10,
        false,
      ),
      fold(
        [
          [cx - 44, 776],
          [cx - 76, 766],
          [cx - 104, 778],
        ],
        10,
        false,
      ),
      fold(
        [
          [cx + 74, 340],
          [cx + 76, 480],
        ],
        16,
        true,
      ),
      fold(
        [
          [cx - 74, 340],
          [cx - 76, 480],
        ],
        16,
        true,
      ),
    ].join(""),
  };
}
