// Plane geometry: what part is seen, nearest points, points inside a polygon, outlines.

/** @typedef {{ x0: number, x1: number, y0: number, y1: number }} View */
/** @typedef {ArrayLike<number>} Points x0, y0, x1, y1, ... */
/** @typedef {Uint8Array | null | undefined} Mask of the points that count; none: all of them */

import { range } from "./numbers.js";

/** @param {Float32Array} points @returns {View} */
export const fullView = (points) => {
  const [x0, x1] = range(points.filter((_, i) => i % 2 === 0)), [y0, y1] = range(points.filter((_, i) => i % 2 === 1));
  return { x0, x1, y0, y1 };
};

/**
 * A view of 1/factor of the size, around a place, inside the whole.
 * @param {View} view @param {View} whole @param {number} factor @param {number[]} place
 * @param {number[]} where the place shall be, in shares of the view
 * @returns {View}
 */
export function zoomed(view, whole, factor, [x, y], [atX, atY] = [0.5, 0.5]) {
  const width = Math.min(whole.x1 - whole.x0, (view.x1 - view.x0) / factor);
  const height = Math.min(whole.y1 - whole.y0, (view.y1 - view.y0) / factor);
  const x0 = Math.min(Math.max(x - atX * width, whole.x0), whole.x1 - width);
  const y0 = Math.min(Math.max(y - atY * height, whole.y0), whole.y1 - height);
  return { x0, x1: x0 + width, y0, y1: y0 + height };
}

/**
 * The nearest of the points that count, with the axes scaled; -1 where none does.
 * @param {Points} points @param {number[]} place @param {number[]} scales @param {Mask} [acts]
 * @param {ArrayLike<number> | null} [far] squares of further distances
 */
export function nearest(points, [x, y], [scaleX, scaleY], acts, far) {
  let best = -1, least = Infinity;
  for (let i = 0; i < points.length / 2; i++) {
    if (acts && !acts[i]) continue;
    const dx = (points[2 * i] - x) * scaleX, dy = (points[2 * i + 1] - y) * scaleY;
    const square = dx * dx + dy * dy + (far ? far[i] : 0);
    if (square < least) [least, best] = [square, i];
  }
  return best;
}

/**
 * The next point from one point in a direction, for the arrow keys: ahead, near, not far aside.
 * @param {Points} points @param {number} from @param {number[]} direction @param {number[]} scales
 * @param {Mask} [acts] @param {number} [step] at least so far ahead, in pixels
 */
export function nextPoint(points, from, [directionX, directionY], [scaleX, scaleY], acts, step = 1) {
  let best = from, least = Infinity;
  for (let i = 0; i < points.length / 2; i++) {
    if (acts && !acts[i]) continue;
    const dx = (points[2 * i] - points[2 * from]) * scaleX;
    const dy = (points[2 * i + 1] - points[2 * from + 1]) * scaleY;
    const ahead = dx * directionX + dy * directionY, aside = dx * directionY - dy * directionX;
    if (ahead < step) continue;
    const cost = ahead + 2 * Math.abs(aside);
    if (cost < least) [least, best] = [cost, i];
  }
  return best;
}

/**
 * Numbers of the points inside a polygon.
 * @param {Points} points @param {number[][]} polygon
 */
export function inside(points, polygon) {
  const members = [];
  for (let i = 0; i < points.length / 2; i++) {
    const x = points[2 * i], y = points[2 * i + 1];
    let odd = false;
    for (let k = 0, j = polygon.length - 1; k < polygon.length; j = k++) {
      const [ax, ay] = polygon[k], [bx, by] = polygon[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    if (odd) members.push(i);
  }
  return members;
}

/**
 * Edges that belong to one triangle: the outline of the domain and of its holes.
 * @param {{ triangles: Int32Array, n: number }} mesh @returns {number[][]}
 */
export function outline(mesh) {
  const edges = new Map();
  for (let t = 0; t < mesh.triangles.length; t += 3) {
    for (let k = 0; k < 3; k++) {
      const a = mesh.triangles[t + k], b = mesh.triangles[t + ((k + 1) % 3)];
      const key = Math.min(a, b) * mesh.n + Math.max(a, b);
      edges.set(key, edges.has(key) ? null : [a, b]);
    }
  }
  return [...edges.values()].filter(Boolean);
}

/**
 * A third of the area of the triangles at each point: what it stands for in a mean over a region.
 * @param {{ triangles: Int32Array, points: Float32Array, n: number }} mesh
 */
export function pointAreas({ triangles, points, n }) {
  const areas = new Float64Array(n);
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = triangles.subarray(t, t + 3);
    const area = Math.abs((points[2 * b] - points[2 * a]) * (points[2 * c + 1] - points[2 * a + 1]) -
      (points[2 * c] - points[2 * a]) * (points[2 * b + 1] - points[2 * a + 1])) / 6;
    areas[a] += area; areas[b] += area; areas[c] += area;
  }
  return areas;
}
