import type { Point } from "./outline.ts";

export type Person = {
  skin: string;
  lips: string;
  hair: string;
  hairLight: string;
  iris: string;
  top: string;
  shorts: string;
  shoes: string;
  backdrop: [string, string];
  /** Distances of the body's right half from its axis, from the neck down to the crotch. */
  torso: Point[];
  arm: Point[];
  leg: Point[];
  neck: number;
  longHair: boolean;
  beard: boolean;
};

export const cx = 384;
export const size = { width: 768, height: 1152 };

/** A hand hanging down at the wrist: thumb towards the body. */
function hand(wx: number, wy: number, w: number): { outer: Point[]; inner: Point[] } {
  return {
    outer: [
      [wx + w * 0.62, wy + 10],
      [wx + w * 0.86, wy + 34],
      [wx + w * 0.84, wy + 62],
      [wx + w * 0.66, wy + 88],
      [wx + w * 0.34, wy + 99],
    ],
    inner: [
      [wx + w * 0.02, wy + 92],
      [wx - w * 0.2, wy + 66],
      [wx - w * 0.46, wy + 66],
      [wx - w * 0.62, wy + 46],
      [wx - w * 0.56, wy + 20],
    ],
  };
}

function arm(outer: Point[], inner: Point[], wrist: Point, handWidth: number): Point[] {
  const { outer: down, inner: up } = hand(wrist[0], wrist[1], handWidth);
  return [...outer, ...down, ...up, ...inner];
}

const woman: Person = {
  skin: "#e2b594",
  lips: "#b9655c",
  hair: "#4a2c1e",
  hairLight: "#7d5236",
  iris: "#5b4630",
  top: "#a8a3b0",
  shorts: "#63666e",
  shoes: "#f0eeea",
  backdrop: ["#eceae6", "#d9d5cf"],
  neck: 30,
  longHair: true,
  beard: false,
  torso: [
    [0, 190],
    [28, 196],
    [30, 222],
    [40, 238],
    [78, 250],
    [104, 262],
    [112, 300],
    [92, 342],
    [86, 380],
    [74, 440],
    [72, 462],
    [84, 510],
    [101, 562],
    [103, 600],
    [92, 640],
    [0, 642],
  ],
  arm: arm(
    [
      [74, 249],
      [108, 258],
      [130, 284],
      [139, 330],
      [149, 390],
      [160, 446],
      [172, 500],
      [184, 556],
      [191, 590],
    ],
    [
      [164, 594],
      [150, 540],
      [134, 486],
      [124, 440],
      [112, 390],
      [100, 346],
      [84, 320],
      [70, 280],
    ],
    [177, 592],
    24,
  ),
  leg: [
    [40, 556],
    [84, 552],
    [97, 574],
    [105, 610],
    [103, 660],
    [92, 730],
    [80, 800],
    [74, 830],
    [76, 870],
    [78, 910],
    [70, 970],
    [58, 1020],
    [56, 1060],
    [32, 1062],
    [32, 1020],
    [29, 970],
    [26, 910],
    [28, 870],
    [24, 830],
    [20, 800],
    [12, 730],
    [5, 670],
    [2, 632],
  ],
};

const man: Person = {
  skin: "#9a6a4a",
  lips: "#7d4a3e",
  hair: "#1d1715",
  hairLight: "#3c312c",
  iris: "#2e1d14",
  top: "#8d98a3",
  shorts: "#3f4650",
  shoes: "#e9e6df",
  backdrop: ["#e4e7e8", "#ced3d5"],
  neck: 38,
  longHair: false,
  beard: true,
  torso: [
    [0, 190],
    [36, 196],
    [39, 222],
    [52, 236],
    [96, 246],
    [124, 258],
    [132, 300],
    [114, 346],
    [108, 390],
    [97, 450],
    [95, 476],
    [98, 520],
    [103, 562],
    [104, 600],
    [96, 640],
    [0, 642],
  ],
  arm: arm(
    [
      [90, 245],
      [128, 252],
      [154, 280],
      [164, 330],
      [174, 390],
      [186, 448],
      [198, 504],
      [208, 560],
      [213, 592],
    ],
    [
      [181, 596],
      [166, 544],
      [150, 490],
      [140, 444],
      [130, 394],
      [122, 352],
      [104, 326],
      [84, 280],
    ],
    [197, 594],
    28,
  ),
  leg: [
    [40, 556],
    [84, 552],
    [98, 574],
    [107, 610],
    [106, 660],
    [98, 730],
    [88, 800],
    [83, 834],
    [86, 874],
    [87, 914],
    [78, 974],
    [66, 1022],
    [64, 1060],
    [36, 1062],
    [36, 1022],
    [33, 974],
    [30, 914],
    [32, 874],
    [30, 834],
    [26, 800],
    [18, 730],
    [8, 670],
    [3, 632],
  ],
};

export const people = { ada: woman, ben: man };
