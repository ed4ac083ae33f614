import { closed, line, mirrored, type Point, symmetric } from "./outline.ts";
import { cx, type Person } from "./people.ts";

const shifted = (points: Point[]): Point[] => points.map(([dx, y]) => [cx + dx, y]);

/** Both of a pair, right and mirrored left. */
export function pair(points: Point[]): string {
  const right = shifted(points);
  return `${closed(right)}${closed(mirrored(right, cx))}`;
}

export function bodyPaths(person: Person): string[] {
  return [symmetric(person.torso, cx), pair(person.arm), pair(person.leg)];
}

/** The plain clothes everybody wears underneath: clipped to the body where they are drawn. */
export function baseLayer(person: Person): { top: string; shorts: string } {
  const wide = person.torso.filter(([, y]) => y > 338 && y < 540).map(([dx, y]): Point => [dx + 3, y]);
  const strap = person.neck + 30;
  const hip = person.torso.at(-3)?.[0] ?? 100;
  const top = symmetric(
    [
      [0, 318],
      [strap * 0.55, 306],
      [strap, 262],
      [strap + 3, 236],
      [strap + 13, 240],
      [strap + 12, 290],
      ...wide,
      [hip + 2, 546],
      [hip, 556],
      [40, 560],
      [0, 561],
    ],
    cx,
    0.9,
  );
  const shorts = symmetric(
    [
      [0, 530],
      [hip, 528],
      [hip + 8, 600],
      [hip + 9, 690],
      [hip * 0.5, 696],
      [8, 690],
      [3, 668],
      [0, 664],
    ],
    cx,
    0.3,
  );
  return { top, shorts };
}

/** Lines and tints that the relief does not give: collar bones, elbows, knees, fingers, hems. */
export function bodyDetails(person: Person): string {
  const stroke = (points: Point[], width: number, opacity: number, deviation: number) => {
    const both = `${line(shifted(points))}${line(mirrored(shifted(points), cx))}`;
    return `<path d="${both}" fill="none" stroke="#4a1f10" stroke-width="${width}" stroke-opacity="${opacity}"
      stroke-linecap="round" filter="url(#soft${deviation})"/>`;
  };
  const knee = (person.leg[5]?.[0] ?? 80) * 0.64;
  const [fx, fy] = person.arm.find(([, y]) => y > 688) ?? [185, 690];
  const fingers = [0, 7, 14].map((dx) =>
    stroke(
      [
        [fx - 6 + dx, fy - 2],
        [fx - 4 + dx, fy - 32],
      ],
      1.4,
      0.35,
      1,
    ),
  );
  return [
    stroke(
      [
        [12, 250],
        [40, 256],
        [74, 258],
      ],
      5,
      0.22,
      3,
    ),
    stroke(
      [
        [knee - 17, 822],
        [knee, 832],
        [knee + 17, 822],
      ],
      6,
      0.2,
      4,
    ),
    stroke(
      [
        [knee - 12, 790],
        [knee, 784],
        [knee + 12, 790],
      ],
      6,
      0.12,
      4,
    ),
    ...fingers,
  ].join("");
}
