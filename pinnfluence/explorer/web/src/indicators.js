// Which loss terms an influence comes through, and whether they pull together.

/**
 * The loss fractions r_L = sum_x |Inf^L| / sum_L' sum_x |Inf^L'| of each loss term, and the
 * cancellation kappa = 1 - mean_x( |sum_L Inf^L| / sum_L |Inf^L| ): 0 where the terms of a point
 * reinforce each other, near 1 where they cancel. Training points without any influence are left
 * out of the mean; NaN where no point has one.
 *
 * @param {ArrayLike<number>[]} parts influence of each training point, by loss term
 * @returns {{ fractions: number[], cancellation: number }}
 */
export function termIndicators(parts) {
  const sums = parts.map(() => 0), n = parts.length ? parts[0].length : 0;
  let kept = 0, ratios = 0;
  for (let j = 0; j < n; j++) {
    let total = 0, size = 0;
    for (let k = 0; k < parts.length; k++) {
      const value = parts[k][j];
      total += value;
      size += Math.abs(value);
      sums[k] += Math.abs(value);
    }
    if (size > 0) {
      kept++;
      ratios += Math.abs(total) / size;
    }
  }
  const all = sums.reduce((a, b) => a + b, 0);
  return { fractions: sums.map((sum) => (all > 0 ? sum / all : NaN)), cancellation: kept ? 1 - ratios / kept : NaN };
}

/**
 * The region ratio sum_{x in group} |Inf| / sum_x |Inf| of one row of influences.
 * @param {ArrayLike<number>} row @param {number[]} group
 */
export function shareOfGroup(row, group) {
  let all = 0, own = 0;
  for (let j = 0; j < row.length; j++) all += Math.abs(row[j]);
  for (const j of group) own += Math.abs(row[j]);
  return all > 0 ? own / all : NaN;
}
