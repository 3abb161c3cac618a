// Points as discs: their order and the pixels that they cover.

/** @typedef {import("./geometry.js").Mask} Mask */

/**
 * Rows of points by |place| in 64 bins, the weakest first: a counting sort.
 * @param {Float32Array} places @param {Mask} acts
 */
export function byStrength(places, acts) {
  const ends = new Int32Array(66), bin = (i) => Math.min(64, (Math.abs(places[i]) * 64) | 0);
  for (let i = 0; i < places.length; i++) if (!acts || acts[i]) ends[bin(i) + 1]++;
  for (let k = 1; k < 66; k++) ends[k] += ends[k - 1];
  const order = new Int32Array(ends[65]);
  for (let i = 0; i < places.length; i++) if (!acts || acts[i]) order[ends[bin(i)]++] = i;
  return order;
}

/** A disc's cover of its pixels, 0 to 255, for centres at 16 places within a pixel. */
function dotStamps(radius) {
  const reach = Math.ceil(radius), size = 2 * reach + 1;
  const made = Array.from({ length: 16 }, (_, place) => {
    const x = ((place & 3) + 0.5) / 4, y = ((place >> 2) + 0.5) / 4;
    return Uint8Array.from({ length: size * size }, (_, k) => {
      const distance = Math.hypot((k % size) - reach + 0.5 - x, Math.floor(k / size) - reach + 0.5 - y);
      return 255 * Math.min(1, Math.max(0, radius + 0.5 - distance));
    });
  });
  return { reach, size, of: (x, y) => made[((y * 4) | 0) * 4 + ((x * 4) | 0)] };
}

/**
 * Discs, the strongest on top, with soft rims; pixel by pixel, for ten thousand in milliseconds.
 * @param {{ points: ArrayLike<number>, places: Float32Array, acts: Mask }} dots places from -1 to 1
 * @param {{ size: number[], view: { x0: number, y1: number }, scales: number[] }} onto
 * @param {Uint32Array} table @param {number} radius
 * @param {boolean} faded whether weak ones let through what lies behind them
 */
export function paintDots({ points, places, acts }, { size: [width, height], view: { x0, y1 }, scales: [scaleX, scaleY] }, table, radius, faded) {
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  const stamps = dotStamps(radius), { size, reach } = stamps;
  for (const i of byStrength(places, acts)) {
    const x = (points[2 * i] - x0) * scaleX, y = (y1 - points[2 * i + 1]) * scaleY;
    const left = Math.floor(x) - reach, top = Math.floor(y) - reach;
    if (left + size <= 0 || top + size <= 0 || left >= width || top >= height) continue;
    const stamp = stamps.of(x - Math.floor(x), y - Math.floor(y)), place = Math.min(1, Math.max(-1, places[i]));
    const colour = table[(127.5 + 127.5 * place + 0.5) | 0] & 0xffffff, most = faded ? Math.min(1, 3 * Math.abs(place)) : 1;
    for (let row = 0, k = 0; row < size; row++) {
      const base = (top + row) * width + left, seen = top + row >= 0 && top + row < height;
      for (let column = 0; column < size; column++, k++) {
        const cover = stamp[k] * most;
        if (cover < 1 || !seen || left + column < 0 || left + column >= width) continue;
        const below = pixels[base + column] >>> 24;
        if (cover >= below || stamp[k] > 127) pixels[base + column] = colour | (Math.max(cover, below) << 24);
      }
    }
  }
  return image;
}
