// One model. A score is the product of a test embedding and a training embedding; those of sums
// and of functions of the outputs are made here out of those that the page holds.

import { pointAreas } from "./geometry.js";
import { readArray, readFields, readPoints } from "./payload.js";

/** @typedef {import("./geometry.js").Mask} Mask */
/** @typedef {{ values: Float32Array, rows: ArrayLike<number> | null }} Embedding */
/** @typedef {{ tests: number[], weights: number[], integral?: string }} Target */

/** Points of the other side that a typical influence is taken over, where the file has none. */
const SOME = 64;

export class Mesh {
  constructor(description, buffer) {
    const { points, others } = readPoints(buffer, description.points);
    this.points = points;
    this.others = others;
    /** @type {Int32Array} */
    this.triangles = readArray(buffer, description.triangles);
    this.reference = readFields(buffer, description.reference);
    this.n = points.length / 2;
    this.cache = new Map();
  }

  get areas() {
    return kept(this.cache, "areas", () => pointAreas(this));
  }
}

/** @template T @param {Map<any, any>} cache @param {any} key @param {() => T} make @returns {T} */
export function kept(cache, key, make) {
  if (!cache.has(key)) cache.set(key, make());
  return cache.get(key);
}

export class Model {
  /** @param {any} description @param {ArrayBuffer} buffer @param {Mesh} mesh */
  constructor(description, buffer, mesh) {
    this.description = description;
    /** @type {string} */
    this.name = description.name;
    /** @type {number} */
    this.rank = description.rank;
    /** @type {Record<string, string[]>} */
    this.groups = description.groups;
    /** @type {Record<string, any>} */
    this.quantities = description.quantities;
    /** @type {Record<string, any>} */
    this.terms = description.terms;
    /** @type {Record<string, { vector: any, value: number, error: number }>} */
    this.integrals = description.integrals;
    /** @type {Record<string, { quantity: string, spearman: number, n_groups: number, proximal: number, polished: boolean }>} */
    this.agreement = description.agreement;
    this.recipe = description.recipe;
    /** @type {string} */
    this.note = description.note;
    /** @type {boolean} */
    this.predicts = description.predicts;
    this.buffer = buffer;
    this.mesh = mesh;
    const { points, others } = readPoints(buffer, description.train_x);
    this.points = points;
    this.others = others;
    /** @type {Int32Array} */
    this.testIndex = readArray(buffer, description.test_index);
    this.fields = Object.fromEntries(["predicted", "estimated", "helping", "residual", "leverage"].map((kind) =>
      [kind, readFields(buffer, description[kind])]));
    this.nTrain = points.length / 2;
    this.cache = new Map();
    this.testKey = this.trainKey = "";
    /** @type {Mask} */
    this.acts = null;
    this.trainTotal = this.testTotal = new Float32Array(0);
  }

  /** Whether there is a quantity; some loss terms act at no test point, or are not resolved. */
  has(quantity) {
    if (this.description.unresolved.includes(quantity)) return false;
    const names = this.groups[quantity] ?? [quantity];
    return names.some((name) => name in this.quantities && this.quantities[name].rows?.shape[0] !== 0);
  }

  /** @returns {Embedding} */
  entry(entries, name) {
    const { values, rows } = entries[name];
    return kept(this.cache, values.start, () => ({
      values: readArray(this.buffer, values),
      rows: rows ? readArray(this.buffer, rows) : null,
    }));
  }

  /** @param {Float32Array} total @param {Embedding} embedding @param {Float32Array} [factors] */
  addTo(total, { values, rows }, factors, column = 0, width = 1) {
    const { rank } = this, n = values.length / rank;
    for (let i = 0; i < n; i++) {
      const from = i * rank, to = (rows ? rows[i] : i) * rank;
      const factor = factors ? factors[i * width + column] : 1;
      for (let k = 0; k < rank; k++) total[to + k] += factor * values[from + k];
    }
  }

  /** Embeddings of all training points, of the chosen loss terms. @param {string[]} terms @returns {Float32Array} */
  trainSum(terms) {
    const own = terms.filter((term) => term in this.terms), key = own.join();
    if (this.trainKey !== key) {
      this.trainTotal = new Float32Array(this.nTrain * this.rank);
      for (const term of own) this.addTo(this.trainTotal, this.entry(this.terms, term));
      this.trainKey = key;
    }
    return this.trainTotal;
  }

  /** Training points on which one of the terms acts (null: all). @param {string[]} terms @returns {Mask} */
  trainActs(terms) {
    const own = terms.filter((term) => term in this.terms);
    if (own.some((term) => !this.terms[term].rows)) return null;
    const acts = new Uint8Array(this.nTrain);
    for (const term of own) for (const row of Array.from(this.entry(this.terms, term).rows)) acts[row] = 1;
    return acts;
  }

  /** Embeddings of a quantity at all test points, and where it acts (null: everywhere). */
  testSum(quantity) {
    if (this.testKey !== quantity) {
      const names = this.groups[quantity] ?? [quantity], total = new Float32Array(this.mesh.n * this.rank);
      for (const name of names) this.addQuantity(total, name);
      this.testTotal = total;
      this.acts = this.testActs(names);
      this.testKey = quantity;
    }
    return { values: this.testTotal, acts: this.acts };
  }

  addQuantity(total, name) {
    const { of, factors } = this.quantities[name];
    if (!of) return this.addTo(total, this.entry(this.quantities, name));
    const derivatives = kept(this.cache, factors.start, () => readArray(this.buffer, factors));
    of.forEach((output, k) => { this.addTo(total, this.entry(this.quantities, output), derivatives, k, of.length); });
  }

  /** @returns {Mask} */
  testActs(names) {
    if (names.some((name) => !this.quantities[name].rows)) return null;
    const acts = new Uint8Array(this.mesh.n);
    for (const name of names) for (const row of Array.from(this.entry(this.quantities, name).rows)) acts[row] = 1;
    return acts;
  }

  /**
   * The embedding of a target: a weighted sum of those of a quantity, or that of an integral.
   * @param {string} quantity @param {Target} target
   */
  vectorOf(quantity, { tests, weights, integral }) {
    if (integral) return Float64Array.from(readArray(this.buffer, this.integrals[integral].vector));
    const { values } = this.testSum(quantity), vector = new Float64Array(this.rank);
    tests.forEach((i, t) => {
      for (let k = 0; k < this.rank; k++) vector[k] += weights[t] * values[i * this.rank + k];
    });
    return vector;
  }

  times(matrix, n, vector, factor) {
    const result = new Float32Array(n), { rank } = this;
    for (let i = 0, at = 0; i < n; i++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += matrix[at++] * vector[k];
      result[i] = sum * factor;
    }
    return result;
  }

  /** Influence of all training points on a target, by its embedding. */
  row(vector, terms, factor) {
    return this.times(this.trainSum(terms), this.nTrain, vector, factor);
  }

  /** Influence of training points, together, on a quantity at all test points. */
  column(quantity, terms, group, factor) {
    return this.times(this.testSum(quantity).values, this.mesh.n, this.groupVector(terms, group), factor);
  }

  groupVector(terms, group) {
    const matrix = this.trainSum(terms), { rank } = this, vector = new Float64Array(rank);
    for (const j of group) for (let k = 0; k < rank; k++) vector[k] += matrix[j * rank + k];
    return vector;
  }

  /** Influence of each training point on a target, through one loss term alone. */
  part(vector, term) {
    const { values, rows } = this.entry(this.terms, term);
    const acting = this.times(values, values.length / this.rank, vector, 1);
    if (!rows) return acting;
    const whole = new Float32Array(this.nTrain);
    acting.forEach((value, i) => { whole[rows[i]] = value; });
    return whole;
  }

  /** Influence of training points, together, on a target, by loss term. */
  byTerm(vector, terms, group, factor) {
    const members = new Uint8Array(this.nTrain), { rank } = this;
    for (const j of group) members[j] = 1;
    return terms.filter((term) => term in this.terms).map((term) => {
      const { values, rows } = this.entry(this.terms, term);
      let sum = 0, acts = false;
      for (let i = 0; i < values.length / rank; i++) {
        if (!members[rows ? rows[i] : i]) continue;
        acts = true;
        for (let k = 0; k < rank; k++) sum += vector[k] * values[i * rank + k];
      }
      return { term, acts, value: sum * factor };
    });
  }

  /**
   * The typical influence, the root mean square over pairs: of each training point on the quantity
   * anywhere, and on each test point of any training point. Of a field and all terms as the file
   * has it; of others over some of the points of the other side.
   */
  typical(quantity, terms, factor) {
    const known = this.description.typical[quantity];
    if (known && Object.keys(this.terms).every((term) => terms.includes(term))) {
      const [row, column] = ["row", "column"].map((side) => readArray(this.buffer, known[side]).map((value) => value * factor));
      return { row, column };
    }
    const train = this.trainSum(terms), { values: test } = this.testSum(quantity);
    return { row: this.roots(train, test, factor), column: this.roots(test, train, factor) };
  }

  /** Root mean squares of the products of each row with some rows of another matrix. */
  roots(matrix, other, factor) {
    const { rank } = this, n = matrix.length / rank, sums = new Float32Array(n), all = other.length / rank, step = Math.max(1, Math.floor(all / SOME));
    let taken = 0;
    for (let i = 0; i < all; i += step, taken++) {
      const products = this.times(matrix, n, other.subarray(i * rank, (i + 1) * rank), factor);
      for (let j = 0; j < n; j++) sums[j] += products[j] * products[j];
    }
    return sums.map((sum) => Math.sqrt(sum / taken));
  }
}
