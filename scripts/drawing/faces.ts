import { closed, line, mirrored, type Point, symmetric } from "./outline.ts";
import { cx, type Person } from "./people.ts";

/** Skull, jaw and ears, as distances from the face's axis. */
export function headPath(person: Person): string {
  const jaw = person.beard ? 4 : 0;
  const head = symmetric(
    [
      [0, 64],
      [28, 70],
      [45, 94],
      [49, 128],
      [47 + jaw / 2, 156],
      [38 + jaw, 184],
      [19 + jaw, 203],
      [0, 208],
    ],
    cx,
  );
  const ear: Point[] = [
    [cx + 46, 128],
    [cx + 55, 124],
    [cx + 57, 138],
    [cx + 51, 158],
    [cx + 45, 158],
  ];
  return `${head}${closed(ear)}${closed(mirrored(ear, cx))}`;
}

function both(draw: (x: (dx: number) => number) => string): string {
  return draw((dx) => cx + dx) + draw((dx) => cx - dx);
}

function eye(person: Person): string {
  return both((x) => {
    const lid: Point[] = [
      [x(11), 139],
      [x(16), 134.5],
      [x(23), 132.8],
      [x(30), 134],
      [x(33), 138],
    ];
    const under: Point[] = [
      [x(33), 138],
      [x(27), 142.5],
      [x(20), 143],
      [x(11), 139],
    ];
    const lash = person.beard ? 2 : 3.2;
    return `
      <ellipse cx="${x(22)}" cy="136" rx="17" ry="11" fill="#4a1f10" fill-opacity="0.22" filter="url(#soft4)"/>
      <path d="${line(lid)}${line(under).replace("M", "L")}Z" fill="#f4efe9"/>
      <circle cx="${x(22)}" cy="137" r="5.8" fill="${person.iris}"/>
      <circle cx="${x(22)}" cy="137" r="2.8" fill="#120c09"/>
      <circle cx="${x(22) - 2}" cy="134.8" r="1.5" fill="#fff"/>
      <path d="${line(lid)}" fill="none" stroke="#24140e" stroke-width="${lash}" stroke-linecap="round"/>
      <path d="${line(under)}" fill="none" stroke="#4a1f10" stroke-opacity="0.4" stroke-width="1"/>
      <path d="${line([
        [x(12), 130],
        [x(22), 126],
        [x(32), 130],
      ])}" fill="none" stroke="#4a1f10"
        stroke-opacity="0.35" stroke-width="1.6" filter="url(#soft1)"/>`;
  });
}

function brow(person: Person): string {
  const thick = person.beard ? 6 : 4;
  return both((x) => {
    const top: Point[] = [
      [x(8), 122],
      [x(20), 116],
      [x(34), 120],
    ];
    const back: Point[] = [
      [x(20), 116 + thick],
      [x(8), 122 + thick * 0.7],
    ];
    return `<path d="${closed([...top, ...back], 0.8)}" fill="${person.hair}" fill-opacity="0.85" filter="url(#soft1)"/>`;
  });
}

function nose(): string {
  const side = line([
    [cx + 7, 132],
    [cx + 8, 150],
    [cx + 12, 162],
    [cx + 6, 168],
  ]);
  return `
    <path d="${side}" fill="none" stroke="#4a1f10" stroke-opacity="0.28" stroke-width="5" filter="url(#soft3)"/>
    <ellipse cx="${cx - 2}" cy="152" rx="3" ry="12" fill="#fff" fill-opacity="0.22" filter="url(#soft2)"/>
    <ellipse cx="${cx}" cy="169" rx="12" ry="3.5" fill="#4a1f10" fill-opacity="0.35" filter="url(#soft2)"/>
    ${both((x) => `<ellipse cx="${x(6)}" cy="167" rx="3" ry="1.7" fill="#3a160c" fill-opacity="0.7" filter="url(#soft1)"/>`)}
    ${both(
      (x) =>
        `<path d="${line([
          [x(11), 160],
          [x(13), 164],
          [x(10), 168],
        ])}" fill="none" stroke="#4a1f10" stroke-opacity="0.35" stroke-width="1.6"/>`,
    )}`;
}

function mouth(person: Person): string {
  const upper = closed(
    [
      [cx - 18, 182.5],
      [cx - 6, 179],
      [cx, 180.5],
      [cx + 6, 179],
      [cx + 18, 182.5],
      [cx, 185.5],
    ],
    0.8,
  );
  const lower = closed(
    [
      [cx - 17, 183.5],
      [cx, 185.5],
      [cx + 17, 183.5],
      [cx + 8, 191],
      [cx - 8, 191],
    ],
    0.8,
  );
  return `
    <path d="${upper}" fill="${person.lips}"/><path d="${lower}" fill="${person.lips}" fill-opacity="0.85"/>
    <path d="${line([
      [cx - 19, 182.4],
      [cx - 7, 185],
      [cx, 185.4],
      [cx + 7, 185],
      [cx + 19, 182.4],
    ])}" fill="none" stroke="#45160f"
      stroke-opacity="0.75" stroke-width="1.6" stroke-linecap="round"/>
    <ellipse cx="${cx - 2}" cy="187.6" rx="7" ry="1.5" fill="#fff" fill-opacity="0.25" filter="url(#soft1)"/>
    <ellipse cx="${cx}" cy="196" rx="11" ry="2.6" fill="#4a1f10" fill-opacity="0.22" filter="url(#soft2)"/>`;
}

function beard(person: Person): string {
  const outline = symmetric(
    [
      [0, 176],
      [16, 174],
      [24, 180],
      [36, 160],
      [48, 150],
      [45, 178],
      [34, 198],
      [18, 208],
      [0, 211],
    ],
    cx,
    0.8,
  );
  return `<path d="${outline}" fill="${person.hair}" fill-opacity="0.62" filter="url(#soft3)"/>`;
}

export function faceDetails(person: Person): string {
  const cheeks = both(
    (x) =>
      `<ellipse cx="${x(30)}" cy="164" rx="12" ry="8" fill="#c4513e" fill-opacity="0.16" filter="url(#soft6)"/>`,
  );
  return [person.beard ? beard(person) : "", cheeks, eye(person), brow(person), nose(), mouth(person)].join(
    "",
  );
}

/** Hair behind the neck; none when it is short. */
export function hairBack(person: Person): string {
  if (!person.longHair) return "";
  return symmetric(
    [
      [0, 50],
      [40, 58],
      [63, 98],
      [68, 150],
      [72, 206],
      [66, 240],
      [48, 246],
      [0, 232],
    ],
    cx,
  );
}

/** Hair in front: a crop, or two sides that part above the brow and frame the face. */
export function hairFront(person: Person): string {
  if (!person.longHair) {
    const crop: Point[] = [
      [cx - 51, 130],
      [cx - 54, 94],
      [cx - 40, 60],
      [cx - 8, 46],
      [cx + 30, 51],
      [cx + 51, 78],
      [cx + 53, 128],
      [cx + 47, 120],
      [cx + 44, 100],
      [cx + 26, 90],
      [cx - 12, 87],
      [cx - 38, 98],
      [cx - 46, 118],
    ];
    return closed(crop, 0.9);
  }
  const right: Point[] = [
    [cx + 6, 48],
    [cx + 42, 58],
    [cx + 63, 96],
    [cx + 69, 150],
    [cx + 73, 206],
    [cx + 66, 242],
    [cx + 50, 244],
    [cx + 43, 232],
    [cx + 51, 206],
    [cx + 52, 170],
    [cx + 49, 132],
    [cx + 38, 104],
    [cx + 20, 86],
    [cx + 2, 70],
  ];
  const left: Point[] = [
    [cx + 14, 50],
    [cx - 28, 54],
    [cx - 56, 84],
    [cx - 67, 140],
    [cx - 73, 200],
    [cx - 68, 240],
    [cx - 52, 246],
    [cx - 43, 234],
    [cx - 50, 208],
    [cx - 52, 172],
    [cx - 49, 134],
    [cx - 40, 112],
    [cx - 16, 96],
    [cx + 10, 78],
    [cx + 20, 62],
  ];
  return `${closed(right, 0.9)}${closed(left.reverse(), 0.9)}`;
}
