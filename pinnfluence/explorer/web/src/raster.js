// Fields as images: triangles as pixels, and scattered values smoothed.

/** @typedef {import("./geometry.js").View} View */
/** @typedef {import("./model.js").Mesh} Mesh */

/**
 * For each pixel its triangle's corners and weights: any field is then drawn in a few milliseconds,
 * and a pixel's colour is that of the interpolated value, not a mix of colours.
 */
export class Raster {
  /** @param {Mesh} mesh @param {View} view @param {number} width @param {number} height */
  constructor(mesh, view, width, height) {
    this.width = width;
    this.height = height;
    const n = width * height;
    this.corner = [0, 1, 2].map(() => new Int32Array(n).fill(-1));
    this.weight = [0, 1].map(() => new Float32Array(n));
    const scaleX = width / (view.x1 - view.x0), scaleY = height / (view.y1 - view.y0);
    const x = new Float32Array(mesh.n), y = new Float32Array(mesh.n);
    for (let i = 0; i < mesh.n; i++) {
      x[i] = (mesh.points[2 * i] - view.x0) * scaleX - 0.5;
      y[i] = (view.y1 - mesh.points[2 * i + 1]) * scaleY - 0.5;
    }
    for (let t = 0; t < mesh.triangles.length; t += 3) {
      this.fill(mesh.triangles[t], mesh.triangles[t + 1], mesh.triangles[t + 2], x, y);
    }
  }

  fill(a, b, c, x, y) {
    const { width, height } = this;
    const area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]);
    if (area === 0) return;
    const left = Math.max(0, Math.ceil(Math.min(x[a], x[b], x[c]) - 1e-3));
    const right = Math.min(width - 1, Math.floor(Math.max(x[a], x[b], x[c]) + 1e-3));
    const top = Math.max(0, Math.ceil(Math.min(y[a], y[b], y[c]) - 1e-3));
    const bottom = Math.min(height - 1, Math.floor(Math.max(y[a], y[b], y[c]) + 1e-3));
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const dx = column - x[a], dy = row - y[a];
        const wb = (dx * (y[c] - y[a]) - (x[c] - x[a]) * dy) / area;
        const wc = ((x[b] - x[a]) * dy - dx * (y[b] - y[a])) / area;
        if (wb < -1e-3 || wc < -1e-3 || wb + wc > 1.001) continue;
        const at = row * width + column;
        this.corner[0][at] = a; this.corner[1][at] = b; this.corner[2][at] = c;
        this.weight[0][at] = wb; this.weight[1][at] = wc;
      }
    }
  }

  /**
   * Values between -1 and 1 in the table's colours; outside the mesh nothing.
   * @param {ArrayLike<number>} values @param {Uint32Array} table
   */
  paint(values, table) {
    const [a, b, c] = this.corner, [wb, wc] = this.weight;
    return painted(this, table, (i) => {
      if (a[i] < 0) return NaN;
      const base = values[a[i]];
      return base + wb[i] * (values[b[i]] - base) + wc[i] * (values[c[i]] - base);
    });
  }

  /**
   * An image of values of its own pixels, inside the mesh.
   * @param {Float32Array} values @param {Uint32Array} table
   */
  paintPixels(values, table) {
    const [a] = this.corner;
    return painted(this, table, (i) => (a[i] < 0 ? NaN : values[i]));
  }
}

function painted({ width, height }, table, valueAt) {
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const place = 127.5 + 127.5 * valueAt(i);
    if (!Number.isNaN(place)) pixels[i] = table[place < 0 ? 0 : place > 255 ? 255 : (place + 0.5) | 0];
  }
  return image;
}

/** Running means of a width along rows, then columns; values outside count as nothing. */
function boxBlurred(values, width, height, reach) {
  const along = (from, n, lines, step, line) => {
    const to = new Float32Array(from.length);
    for (let k = 0; k < lines; k++) {
      let sum = 0;
      for (let i = 0; i < Math.min(reach, n); i++) sum += from[k * line + i * step];
      for (let i = 0; i < n; i++) {
        if (i + reach < n) sum += from[k * line + (i + reach) * step];
        if (i > reach) sum -= from[k * line + (i - reach - 1) * step];
        to[k * line + i * step] = sum;
      }
    }
    return to;
  };
  return along(along(values, width, height, 1, width), height, width, width, 1);
}

/**
 * The weighted mean of scattered values around each pixel, by three box blurs (nearly a Gaussian) of
 * values and of their number.
 * @param {{ x: ArrayLike<number>, y: ArrayLike<number>, values: ArrayLike<number> }} dots in pixels
 * @param {number} width @param {number} height @param {number} reach of a box, in pixels
 */
export function smoothed({ x, y, values }, width, height, reach) {
  let sums = new Float32Array(width * height), numbers = new Float32Array(width * height);
  for (let i = 0; i < values.length; i++) {
    const column = Math.min(width - 1, Math.floor(x[i])), row = Math.min(height - 1, Math.floor(y[i]));
    if (!(column >= 0 && row >= 0) || !Number.isFinite(values[i])) continue;
    sums[row * width + column] += values[i];
    numbers[row * width + column]++;
  }
  for (let k = 0; k < 3; k++) {
    sums = boxBlurred(sums, width, height, reach);
    numbers = boxBlurred(numbers, width, height, reach);
  }
  return sums.map((sum, i) => (numbers[i] > 0.5 ? sum / numbers[i] : NaN));
}
