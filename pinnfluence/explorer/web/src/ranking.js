// The largest of many.

/**
 * The n places of the largest values of one sign, the largest first.
 * @param {ArrayLike<number>} values @param {1 | -1} sign @param {number} n
 */
export function strongest(values, sign, n) {
  const best = [];
  let least = 0; // of the best, once there are n
  for (let i = 0; i < values.length; i++) {
    const value = sign * values[i];
    if (!(value > least)) continue;
    let k = best.length;
    while (k > 0 && sign * values[best[k - 1]] < value) k--;
    best.splice(k, 0, i);
    if (best.length > n) best.pop();
    if (best.length === n) least = sign * values[best[n - 1]];
  }
  return best;
}
