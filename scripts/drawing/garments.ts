import { closed, line, mirrored, type Point } from "./outline.ts";

/** A garment laid flat. Colours and seams are flat drawing; `folds` are ridges and grooves for the relief. */
export type Drawing = {
  size: { width: number; height: number };
  outline: string;
  /** Drawn inside the outline. */
  surface: string;
  /** White strokes rise, black strokes sink. */
  folds: string;
  weave: number;
};

const flipped = (points: Point[], cx: number) => `${line(points)}${line(mirrored(points, cx))}`;
const polygon = (half: Point[], cx: number) => {
  const right = half.map(([dx, y]): Point => [cx + dx, y]);
  return [...right, ...mirrored(right, cx)];
};
/** Straight stretches with soft corners, as cloth has them. */
const cut = (half: Point[], cx: number) => closed(polygon(half, cx), 0.35);

const seam = (path: string, width = 2, opacity = 0.4) =>
  `<path d="${path}" fill="none" stroke="#000" stroke-opacity="${opacity}" stroke-width="${width}"/>`;
const stitches = (path: string) =>
  `<path d="${path}" fill="none" stroke="#fff" stroke-opacity="0.35" stroke-width="1.5" stroke-dasharray="5 4"/>`;
const fold = (points: Point[], width: number, up: boolean) =>
  `<path d="${line(points)}" fill="none" stroke="${up ? "#fff" : "#000"}" stroke-width="${width}" stroke-linecap="round"/>`;

function tee(): Drawing {
  const cx = 300;
  const outline = cut(
    [
      [0, 98],
      [30, 92],
      [56, 66],
      [64, 40],
      [72, 40],
      [112, 52],
      [154, 72],
      [196, 116],
      [270, 206],
      [262, 216],
      [212, 254],
      [202, 250],
      [150, 196],
      [148, 300],
      [146, 440],
      [150, 596],
      [146, 604],
      [0, 608],
    ],
    cx,
  );
  const collar = flipped(
    [
      [cx, 110],
      [cx + 36, 103],
      [cx + 66, 74],
      [cx + 78, 42],
    ],
    cx,
  );
  const armhole = flipped(
    [
      [cx + 146, 70],
      [cx + 134, 110],
      [cx + 136, 160],
      [cx + 150, 198],
    ],
    cx,
  );
  const cuff = flipped(
    [
      [cx + 256, 200],
      [cx + 200, 240],
    ],
    cx,
  );
  const hem = line([
    [cx - 152, 590],
    [cx, 594],
    [cx + 152, 590],
  ]);
  const rays = Array.from({ length: 9 }, (_, i) => {
    const a = Math.PI + (i * Math.PI) / 8;
    const [x, y] = [Math.cos(a), Math.sin(a)];
    return `M${cx + x * 66} ${300 + y * 66}L${cx + x * 88} ${300 + y * 88}`;
  }).join("");
  const waves = [0, 16, 32].map((dy) =>
    line([-84, -56, -28, 0, 28, 56, 84].map((dx, i): Point => [cx + dx, 314 + dy + (i % 2 ? -6 : 2)])),
  );
  return {
    size: { width: 600, height: 650 },
    outline,
    weave: 0.16,
    surface: `<rect width="100%" height="100%" fill="#2f7f79"/>
      <path d="M${cx - 56} 300 A56 56 0 0 1 ${cx + 56} 300 Z" fill="#f2b84b"/>
      <path d="${rays}" stroke="#f2b84b" stroke-width="7" stroke-linecap="round"/>
      ${waves.map((d) => `<path d="${d}" fill="none" stroke="#f6ead3" stroke-width="6" stroke-linecap="round"/>`).join("")}
      ${seam(collar)}${seam(armhole, 2.5, 0.45)}${stitches(cuff)}${stitches(hem)}`,
    folds: [
      fold(
        [
          [cx - 140, 210],
          [cx - 100, 260],
          [cx - 84, 340],
        ],
        10,
        false,
      ),
      fold(
        [
          [cx - 126, 206],
          [cx - 84, 250],
          [cx - 64, 330],
        ],
        9,
        true,
      ),
      fold(
        [
          [cx + 140, 210],
          [cx + 106, 270],
          [cx + 96, 360],
        ],
        10,
        false,
      ),
      fold(
        [
          [cx + 128, 204],
          [cx + 88, 262],
          [cx + 78, 340],
        ],
        9,
        true,
      ),
      fold(
        [
          [cx - 110, 600],
          [cx - 96, 520],
          [cx - 100, 450],
        ],
        12,
        true,
      ),
      fold(
        [
          [cx + 60, 600],
          [cx + 76, 500],
          [cx + 70, 430],
        ],
        14,
        false,
      ),
      fold(
        [
          [cx - 30, 600],
          [cx - 24, 540],
        ],
        12,
        false,
      ),
      fold(
        [
          [cx + 196, 150],
          [cx + 220, 200],
        ],
        8,
        false,
      ),
      fold(
        [
          [cx - 196, 150],
          [cx - 214, 200],
        ],
        8,
        false,
      ),
    ].join(""),
  };
}

function sweater(): Drawing {
  const cx = 380;
  const outline = cut(
    [
      [0, 92],
      [34, 86],
      [58, 66],
      [68, 40],
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
    [
      [cx, 112],
      [cx + 42, 105],
      [cx + 74, 78],
      [cx + 88, 40],
    ],
    cx,
  );
  const armhole = flipped(
    [
      [cx + 152, 66],
      [cx + 146, 130],
      [cx + 150, 190],
      [cx + 163, 248],
    ],
    cx,
  );
  const cuffBand = (sign: 1 | -1) =>
    `<path d="M${cx + sign * 230} 520 L${cx + sign * 312} 500 L${cx + sign * 312} 560 L${cx + sign * 240} 575 Z" fill="#1f2e4d"/>`;
  return {
    size: { width: 760, height: 660 },
    outline,
    weave: 0.34,
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

function dress(): Drawing {
  const cx = 300;
  const outline = cut(
    [
      [0, 132],
      [34, 118],
      [58, 78],
      [66, 36],
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
    weave: 0.12,
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

function trousers(): Drawing {
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
    weave: 0.3,
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

export const garments = { tee: tee(), sweater: sweater(), dress: dress(), trousers: trousers() };
