// Numbers of the page: arrays out of their text.

/**
 * @typedef {{ type: string, start: number, shape: number[], scale?: number, scales?: any }} Entry
 */

// All float16 codes as numbers; looking one up is faster than computing it.
const HALF = (() => {
  const table = new Float32Array(65536);
  for (let code = 0; code < 65536; code++) {
    const exponent = (code >> 10) & 31, fraction = code & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[code] = exponent === 31 ? NaN : code & 32768 ? -size : size;
  }
  return table;
})();

function bytesOf(base64) {
  // @ts-expect-error: newer than the library of types
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** The bytes of a blob of the page, by its name. @param {string} name @returns {Promise<ArrayBuffer>} */
export async function readBlob(name) {
  const element = document.getElementById(`blob-${name}`);
  const deflated = new Blob([bytesOf(element.textContent)]);
  element.remove(); // its text is not needed again
  const stream = deflated.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** @param {ArrayBuffer} buffer @param {Entry} entry @returns {any} */
export function readArray(buffer, { type, start, shape, scale, scales }) {
  const n = shape.reduce((product, length) => product * length, 1);
  if (type === "f4") return new Float32Array(buffer, start, n);
  if (type === "i4") return new Int32Array(buffer, start, n);
  if (type === "u2") return new Uint16Array(buffer, start, n);
  if (type === "i1") {
    const codes = new Int8Array(buffer, start, n), rows = readArray(buffer, scales), width = n / rows.length, values = new Float32Array(n);
    for (let row = 0, i = 0; row < rows.length; row++) for (let k = 0; k < width; k++, i++) values[i] = codes[i] * rows[row];
    return values;
  }
  const low = new Uint8Array(buffer, start, n), high = new Uint8Array(buffer, start + n, n);
  const values = new Float32Array(n);
  for (let i = 0; i < n; i++) values[i] = HALF[low[i] | (high[i] << 8)] * scale;
  return values;
}

/** @param {ArrayBuffer} buffer @param {Record<string, Entry>} entries @returns {Record<string, Float32Array>} */
export const readFields = (buffer, entries) =>
  Object.fromEntries(Object.entries(entries ?? {}).map(([name, entry]) => [name, readArray(buffer, entry)]));

/**
 * Points as they are drawn, x0, y0, x1, y1, ..., y = 0 on a line; and the other coordinates.
 * @param {ArrayBuffer} buffer @param {Entry} entry
 */
export function readPoints(buffer, entry) {
  const all = readArray(buffer, entry), [n, d] = entry.shape, points = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) for (let k = 0; k < Math.min(2, d); k++) points[2 * i + k] = all[i * d + k];
  const others = Array.from({ length: Math.max(0, d - 2) }, (_, k) =>
    Float32Array.from({ length: n }, (_, i) => all[i * d + 2 + k]));
  return { points, others };
}
