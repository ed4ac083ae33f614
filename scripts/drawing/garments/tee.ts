import { line, type Point } from "../outline.ts";
import { cut, type Drawing, flipped, fold, neckline, seam, stitches } from "./cloth.ts";

export function tee(): Drawing {
  const cx = 300;
  const outline = cut(
    [
      ...neckline(64, 40, 98),
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
    neckline(78, 40, 110).map(([dx, y]): Point => [cx + dx, y]),
    cx,
  );
  const armhole = flipped(
    [
      [cx + 138, 64],
      [cx + 131, 110],
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
    weave: 0.07,
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
