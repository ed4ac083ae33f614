import { line } from "../outline.ts";
import { cut, type Drawing, fold, neckline, seam, stitches } from "./cloth.ts";

export function dress(): Drawing {
  const cx = 300;
  const outline = cut(
    [
      ...neckline(66, 36, 132),
      [72, 32],
      [98, 38],
      [104, 44],
      [98, 100],
      [104, 150],
      [126, 186],
      [122, 240],
      [106, 320],
      [104, 348],
      [118, 420],
      [150, 560],
      [186, 720],
      [204, 836],
      [196, 846],
      [100, 862],
      [0, 866],
    ],
    cx,
  );
  const petals = (x: number, y: number, r: number, fill: string) =>
    `${[0, 72, 144, 216, 288]
      .map(
        (a) =>
          `<ellipse cx="${x}" cy="${y - r}" rx="${r * 0.55}" ry="${r}" fill="${fill}" transform="rotate(${a} ${x} ${y})"/>`,
      )
      .join("")}<circle cx="${x}" cy="${y}" r="${r * 0.45}" fill="#f5d47a"/>`;
  let flowers = "";
  for (let row = 0; row < 20; row++) {
    for (let column = -5; column <= 5; column++) {
      const x = cx + column * 46 + (row % 2) * 23 + ((row * 37 + column * 53) % 11) - 5;
      const y = 60 + row * 43 + ((row * 29 + column * 17) % 13) - 6;
      flowers += petals(
        x,
        y,
        8 + ((row * 7 + column * 3 + 50) % 4),
        (row + column) % 3 ? "#f3e3dc" : "#e8a79a",
      );
    }
  }
  const belt = `<path d="M${cx - 112} 326 Q${cx} 340 ${cx + 112} 326 L${cx + 112} 352 Q${cx} 366 ${cx - 112} 352 Z" fill="#5d1f33"/>`;
  const wrap = line([
    [cx - 60, 96],
    [cx - 24, 190],
    [cx + 40, 290],
    [cx + 96, 330],
  ]);
  return {
    size: { width: 600, height: 900 },
    outline,
    weave: 0.05,
    surface: `<rect width="100%" height="100%" fill="#8c2f45"/>${flowers}${belt}${seam(wrap, 2.5, 0.4)}
      ${stitches(
        line([
          [cx - 206, 832],
          [cx - 100, 850],
          [cx, 854],
          [cx + 100, 850],
          [cx + 206, 832],
        ]),
      )}
      ${seam(
        line([
          [cx + 20, 352],
          [cx + 60, 560],
          [cx + 74, 866],
        ]),
        2.5,
        0.35,
      )}`,
    folds: [
      ...[-150, -112, -70, -28, 16, 52, 96, 138].map((dx, i) =>
        fold(
          [
            [cx + dx * 0.5, 372],
            [cx + dx * 0.82, 560],
            [cx + dx * 1.18, 856],
          ],
          20 + (i % 3) * 5,
          i % 2 === 0,
        ),
      ),
      fold(
        [
          [cx - 92, 318],
          [cx - 50, 270],
          [cx - 30, 220],
        ],
        10,
        false,
      ),
      fold(
        [
          [cx + 94, 318],
          [cx + 60, 280],
          [cx + 30, 200],
        ],
        10,
        true,
      ),
      fold(
        [
          [cx - 104, 190],
          [cx - 60, 214],
          [cx - 20, 220],
        ],
        12,
        true,
      ),
    ].join(""),
  };
}
