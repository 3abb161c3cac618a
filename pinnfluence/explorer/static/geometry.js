// Plane geometry: what part is seen, triangles as pixels, nearest points, outlines, ticks.

const fullView = (points, size = range) => {
  const x = size(points.filter((_, i) => i % 2 === 0)), y = size(points.filter((_, i) => i % 2 === 1));
  return { x0: x[0], x1: x[1], y0: y[0], y1: y[1] };
};

// A view of 1/factor of the size, around a place, inside the whole.
function zoomed(view, whole, factor, [x, y], [atX, atY] = [0.5, 0.5]) {
  const width = Math.min(whole.x1 - whole.x0, (view.x1 - view.x0) / factor);
  const height = Math.min(whole.y1 - whole.y0, (view.y1 - view.y0) / factor);
  const x0 = Math.min(Math.max(x - atX * width, whole.x0), whole.x1 - width);
  const y0 = Math.min(Math.max(y - atY * height, whole.y0), whole.y1 - height);
  return { x0, x1: x0 + width, y0, y1: y0 + height };
}

// For each pixel its triangle's corners and weights: any field is then drawn in a few
// milliseconds, and a pixel's colour is that of the interpolated value, not a mix of colours.
class Raster {
  constructor(mesh, view, width, height) {
    Object.assign(this, { width, height });
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

  // Values between -1 and 1 in the table's colours; outside the mesh nothing.
  paint(values, table) {
    const [a, b, c] = this.corner, [wb, wc] = this.weight;
    const image = new ImageData(this.width, this.height), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      if (a[i] < 0) continue;
      const base = values[a[i]];
      const value = base + wb[i] * (values[b[i]] - base) + wc[i] * (values[c[i]] - base);
      const place = 127.5 + 127.5 * value;
      pixels[i] = table[place < 0 ? 0 : place > 255 ? 255 : (place + 0.5) | 0];
    }
    return image;
  }
}

// The nearest of the points [x0, y0, x1, y1, ...] that count, with the axes scaled; far are squares
// of further distances.
function nearest(points, [x, y], [scaleX, scaleY], acts, far) {
  let best = -1, least = Infinity;
  for (let i = 0; i < points.length / 2; i++) {
    if (acts && !acts[i]) continue;
    const dx = (points[2 * i] - x) * scaleX, dy = (points[2 * i + 1] - y) * scaleY;
    const square = dx * dx + dy * dy + (far ? far[i] : 0);
    if (square < least) [least, best] = [square, i];
  }
  return best;
}

// The next point from one point in a direction, for the arrow keys: ahead, near, not far aside.
function nextPoint(points, from, [directionX, directionY], [scaleX, scaleY], acts, step = 1) {
  let best = from, least = Infinity;
  for (let i = 0; i < points.length / 2; i++) {
    if (acts && !acts[i]) continue;
    const dx = (points[2 * i] - points[2 * from]) * scaleX;
    const dy = (points[2 * i + 1] - points[2 * from + 1]) * scaleY;
    const ahead = dx * directionX + dy * directionY, aside = dx * directionY - dy * directionX;
    if (ahead < step) continue; // pixels
    const cost = ahead + 2 * Math.abs(aside);
    if (cost < least) [least, best] = [cost, i];
  }
  return best;
}

// Numbers of the points inside a polygon.
function inside(points, polygon) {
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

// Edges that belong to one triangle: the outline of the domain and of its holes.
function outline(mesh) {
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

// Round numbers that divide a range in about n parts.
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const marks = [];
  for (let k = Math.ceil(low / step - 1e-6); k * step <= high + 1e-6 * step; k++) {
    marks.push(Number((k * step).toPrecision(6)));
  }
  return marks;
}
