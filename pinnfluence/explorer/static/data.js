// Numbers of the page: arrays out of their text, and scores as products of embeddings.

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
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function readBlob(name) {
  const element = document.getElementById(`blob-${name}`);
  const deflated = new Blob([bytesOf(element.textContent)]);
  element.remove(); // its text is not needed again
  const stream = deflated.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function readArray(buffer, { type, start, shape, scale }) {
  const n = shape.reduce((product, length) => product * length, 1);
  if (type === "f4") return new Float32Array(buffer, start, n);
  if (type === "i4") return new Int32Array(buffer, start, n);
  if (type === "u2") return new Uint16Array(buffer, start, n);
  const low = new Uint8Array(buffer, start, n), high = new Uint8Array(buffer, start + n, n);
  const values = new Float32Array(n);
  for (let i = 0; i < n; i++) values[i] = HALF[low[i] | (high[i] << 8)] * scale;
  return values;
}

const readFields = (buffer, entries) =>
  Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, readArray(buffer, entry)]));

// Points as they are drawn, [x0, y0, x1, y1, ...], y = 0 on a line; and the other coordinates.
function readPoints(buffer, entry) {
  const all = readArray(buffer, entry), [n, d] = entry.shape, points = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) for (let k = 0; k < Math.min(2, d); k++) points[2 * i + k] = all[i * d + k];
  const others = Array.from({ length: Math.max(0, d - 2) }, (_, k) =>
    Float32Array.from({ length: n }, (_, i) => all[i * d + 2 + k]));
  return { points, others };
}

class Mesh {
  constructor(description, buffer) {
    Object.assign(this, readPoints(buffer, description.points));
    this.triangles = readArray(buffer, description.triangles);
    this.reference = readFields(buffer, description.reference);
    this.n = this.points.length / 2;
  }
}

// One model. A score is the product of a test embedding and a training embedding; those of sums
// and of functions of the outputs are made here out of those that the page holds.
class Model {
  constructor(description, buffer, mesh) {
    Object.assign(this, description);
    this.buffer = buffer;
    this.mesh = mesh;
    Object.assign(this, readPoints(buffer, description.train_x));
    this.testIndex = readArray(buffer, description.test_index);
    this.predicted = readFields(buffer, description.predicted);
    this.estimated = readFields(buffer, description.estimated);
    this.helping = readFields(buffer, description.helping);
    this.nTrain = this.points.length / 2;
    this.cache = new Map();
  }

  // Whether there is a quantity; some loss terms act at no test point.
  has(quantity) {
    const names = this.groups[quantity] ?? [quantity];
    return names.some((name) => name in this.quantities && this.quantities[name].rows?.shape[0] !== 0);
  }

  kept(key, make) {
    if (!this.cache.has(key)) this.cache.set(key, make());
    return this.cache.get(key);
  }

  entry(entries, name) {
    const { values, rows } = entries[name];
    return this.kept(values.start, () => ({
      values: readArray(this.buffer, values),
      rows: rows ? readArray(this.buffer, rows) : null,
    }));
  }

  addTo(total, { values, rows }, factors, column, width) {
    const rank = this.rank, n = values.length / rank;
    for (let i = 0; i < n; i++) {
      const from = i * rank, to = (rows ? rows[i] : i) * rank;
      const factor = factors ? factors[i * width + column] : 1;
      for (let k = 0; k < rank; k++) total[to + k] += factor * values[from + k];
    }
  }

  // Embeddings of all training points, of the chosen loss terms.
  trainSum(terms) {
    const own = terms.filter((term) => term in this.terms), key = own.join();
    if (this.trainKey !== key) {
      this.trainTotal = new Float32Array(this.nTrain * this.rank);
      for (const term of own) this.addTo(this.trainTotal, this.entry(this.terms, term));
      this.trainKey = key;
    }
    return this.trainTotal;
  }

  // Training points on which one of the terms acts (null: all).
  trainActs(terms) {
    const own = terms.filter((term) => term in this.terms);
    if (own.some((term) => !this.terms[term].rows)) return null;
    const acts = new Uint8Array(this.nTrain);
    for (const term of own) for (const row of this.entry(this.terms, term).rows) acts[row] = 1;
    return acts;
  }

  // Embeddings of a quantity at all test points, and where it acts (null: everywhere).
  testSum(quantity) {
    if (this.testKey !== quantity) {
      const total = new Float32Array(this.mesh.n * this.rank);
      const names = this.groups[quantity] ?? [quantity];
      let acts = names.length ? null : new Uint8Array(this.mesh.n);
      if (names.length && names.every((name) => this.quantities[name].rows)) {
        acts = new Uint8Array(this.mesh.n);
        for (const name of names) {
          for (const row of this.entry(this.quantities, name).rows) acts[row] = 1;
        }
      }
      for (const name of names) {
        const { of, factors } = this.quantities[name];
        if (!of) this.addTo(total, this.entry(this.quantities, name));
        else {
          const derivatives = this.kept(factors.start, () => readArray(this.buffer, factors));
          of.forEach((output, k) =>
            this.addTo(total, this.entry(this.quantities, output), derivatives, k, of.length));
        }
      }
      this.testTotal = total;
      this.acts = acts;
      this.testKey = quantity;
    }
    return { values: this.testTotal, acts: this.acts };
  }

  times(matrix, n, vector, factor) {
    const result = new Float32Array(n), rank = this.rank;
    for (let i = 0, at = 0; i < n; i++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += matrix[at++] * vector[k];
      result[i] = sum * factor;
    }
    return result;
  }

  // Influence of all training points on a quantity at one test point.
  row(quantity, terms, test, factor) {
    const vector = this.testSum(quantity).values.subarray(test * this.rank, (test + 1) * this.rank);
    return this.times(this.trainSum(terms), this.nTrain, vector, factor);
  }

  // Influence of training points, together, on a quantity at all test points.
  column(quantity, terms, group, factor) {
    const matrix = this.trainSum(terms), rank = this.rank, vector = new Float64Array(rank);
    for (const j of group) for (let k = 0; k < rank; k++) vector[k] += matrix[j * rank + k];
    return this.times(this.testSum(quantity).values, this.mesh.n, vector, factor);
  }

  // Influence of training points, together, on a quantity at one test point, by loss term.
  byTerm(quantity, terms, test, group, factor) {
    const { rank, nTrain } = this, left = this.testSum(quantity).values, members = new Uint8Array(nTrain);
    for (const j of group) members[j] = 1;
    return terms.filter((term) => term in this.terms).map((term) => {
      const { values, rows } = this.entry(this.terms, term);
      let sum = 0, acts = false;
      for (let i = 0; i < values.length / rank; i++) {
        if (!members[rows ? rows[i] : i]) continue;
        acts = true;
        for (let k = 0; k < rank; k++) sum += left[test * rank + k] * values[i * rank + k];
      }
      return { term, acts, value: sum * factor };
    });
  }
}
