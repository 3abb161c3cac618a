// Values between the points of a mesh.

import { Delaunay } from "d3-delaunay";

/** @typedef {import("./model.js").Mesh} Mesh */

/** Triangles at each point, as a list of their numbers. @param {Mesh} mesh */
function trianglesAt({ triangles, n }) {
  const lists = Array.from({ length: n }, () => /** @type {number[]} */ ([]));
  triangles.forEach((point, k) => { lists[point].push(Math.floor(k / 3)); });
  return lists;
}

/** Finds the corners and weights of the triangle around a place; the axes are scaled for distances. */
export class Interpolation {
  /** @param {Mesh} mesh @param {number[]} scales */
  constructor(mesh, [scaleX, scaleY]) {
    this.mesh = mesh;
    this.scales = [scaleX, scaleY];
    this.delaunay = new Delaunay(mesh.points.map((c, k) => c * (k % 2 ? scaleY : scaleX)));
    this.triangles = trianglesAt(mesh);
    this.last = 0;
  }

  /**
   * Points and their weights, which add up to 1; null outside the mesh.
   * @param {number[]} place @returns {{ points: number[], weights: number[] } | null}
   */
  at([x, y]) {
    const { mesh: { points, triangles }, scales } = this;
    this.last = this.delaunay.find(x * scales[0], y * scales[1], this.last);
    const near = this.triangles[this.last], tried = new Set(near);
    for (const t of near) for (let k = 0; k < 3; k++) for (const u of this.triangles[triangles[3 * t + k]]) tried.add(u);
    for (const t of tried) {
      const [a, b, c] = triangles.subarray(3 * t, 3 * t + 3);
      const [ax, ay] = [points[2 * a], points[2 * a + 1]];
      const [bx, by] = [points[2 * b] - ax, points[2 * b + 1] - ay], [cx, cy] = [points[2 * c] - ax, points[2 * c + 1] - ay];
      const area = bx * cy - cx * by;
      const wb = ((x - ax) * cy - cx * (y - ay)) / area, wc = (bx * (y - ay) - (x - ax) * by) / area;
      if (wb >= -1e-5 && wc >= -1e-5 && wb + wc <= 1 + 1e-5) return { points: [a, b, c], weights: [1 - wb - wc, wb, wc] };
    }
    return null;
  }

  /**
   * A field at other places, NaN outside the mesh.
   * @param {Float32Array} field @param {ArrayLike<number>} places x0, y0, x1, y1, ...
   */
  sample(field, places) {
    const result = new Float32Array(places.length / 2);
    for (let i = 0; i < result.length; i++) {
      const found = this.at([places[2 * i], places[2 * i + 1]]);
      result[i] = found ? found.points.reduce((sum, p, k) => sum + found.weights[k] * field[p], 0) : NaN;
    }
    return result;
  }
}
