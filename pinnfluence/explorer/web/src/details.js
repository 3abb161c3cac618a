// The drawer: what is chosen of one model, in a sentence, and its tabs.

import { shareOfGroup } from "./indicators.js";
import { element } from "./elements.js";
import { showFormula } from "./formula.js";
import { focused } from "./looks.js";
import { showModels } from "./models_table.js";
import { count, estimate, percent, signed, words } from "./numbers.js";
import { byId } from "./redraw.js";
import { apartWords, at, coordinatesOf, labelOf, page, pair, pointApart, scaleOf, state } from "./state.js";
import { showStrongest } from "./strongest.js";
import { inUnit, isIntegral, predictedAt, shareOf, targetOf, targetWords } from "./targets.js";
import { showTerms } from "./terms.js";
import { fieldsAt } from "./tooltip.js";
import { trust, trustGrade } from "./trust.js";

/** @typedef {import("./looks.js").Look} Look */

const TABS = { strongest: showStrongest, terms: showTerms, models: showModels, facts: showFacts, formula: showFormula };
export const TAB_NAMES = /** @type {const} */ (["strongest", "terms", "models", "facts", "formula"]);

/** What a value means, in one sentence: a prediction only by a recipe that makes one. @param {Look} look */
export function sentence(look) {
  const { model, value } = look, removal = value / scaleOf(model), what = targetWords();
  const all = Object.keys(model.terms), chosen = all.filter((term) => state.terms.includes(term));
  if (chosen.length === 0) return "No loss term is chosen, so no training point counts.";
  const points = state.polygon ? `these ${count(look.group.length)} training points together` : "this training point";
  const subject = chosen.length === all.length ? `emoving ${points}` : `emoving ${chosen.join(", ")} at ${points}`;
  const share = shareOf(removal, look), size = `by ${inUnit(estimate(Math.abs(removal)))}${share && ` (${share})`}`;
  if (model.predicts) {
    return removal === 0 ? `R${subject} and training again would leave ${what} as it is, to first order.`
      : `R${subject} and training again would ${removal > 0 ? "raise" : "lower"} ${what} ${size}, to first order.`;
  }
  const effect = removal === 0 ? `leaves ${what} as it is` : `${removal > 0 ? "raises" : "lowers"} ${what} ${size}`;
  return `In the model of this recipe, r${subject} ${effect}.`;
}

/** The same number from Python. @param {Look} look */
export function expression(look) {
  const { model } = look, all = Object.keys(model.terms), chosen = all.filter((term) => state.terms.includes(term));
  if (isIntegral()) return "influence.candidates(...) has integrals; a score file has values at points";
  const options = [`"${state.quantity}"`];
  if (chosen.length < all.length) options.push(`terms=[${chosen.map((t) => `"${t}"`).join(", ")}]`);
  if (state.paper) options.push('scale="paper"');
  const matrix = options.length === 1 ? `scores[${options[0]}]` : `scores.matrix(${options.join(", ")})`;
  const columns = state.polygon ? "points" : look.point;
  if (state.target !== "point") return `weights @ ${matrix}[tests][:, ${columns}]${state.polygon ? ".sum(1)" : ""}`;
  const row = model.testIndex[look.test];
  return state.polygon ? `${matrix}[${row}, points].sum()` : `${matrix}[${row}, ${columns}]`;
}

/** @param {Look} look */
function targetFacts(look) {
  const { model, target } = look;
  if (target.integral) {
    const { error, value } = model.integrals[target.integral];
    return [[target.integral, inUnit(words(value))], ["its gradient", `from test points near it, off by ${percent(error)}`]];
  }
  if (state.target !== "point") {
    const value = predictedAt(model, target);
    return [[state.target, `${count(target.tests.length)} test points`], ...(value === undefined ? [] : [["mean predicted", inUnit(words(value))]])];
  }
  const apart = apartWords(state.place, at(model.mesh.points, look.test));
  return [["✛ test point", `${model.testIndex[look.test]} at ${pair(coordinatesOf(model.mesh, look.test))}${apart && `, ${apart}`}`],
    ...fieldsAt(model, look.test)];
}

/** @param {Look} look */
function pointFacts(look) {
  const { model } = look;
  if (state.polygon) {
    return [["training points", `${count(look.group.length)} in the lasso, ${percent(look.group.length / model.nTrain)} of all`],
      ["their share", `${percent(shareOfGroup(look.row, look.group))} of all influence on it`]];
  }
  const { model: other, index } = state.point, apart = pointApart(look), own = page.models[other] === model;
  const nearestTo = own ? "" : apart ? `, nearest to ${index} of ${page.models[other].name}, ${apart}` : `, the place of ${index} of ${page.models[other].name}`;
  const leverage = model.fields.leverage.points?.[look.point];
  return [["◯ training point", `${look.point} at ${pair(coordinatesOf(model, look.point))}${nearestTo}`],
    ...(leverage >= 0 ? [["leverage", words(leverage, 2)]] : [])];
}

/** @param {Look} look */
function showFacts(look) {
  byId("expression").textContent = expression(look);
  byId("facts").replaceChildren(...[...targetFacts(look), ...pointFacts(look)].flatMap(([name, text]) =>
    [element("dt", name), element("dd", text)]));
}

/** The drawer of the model that is in focus. */
export function showDetails() {
  const look = focused();
  byId("details").hidden = !look;
  if (!look) return;
  const { model } = look;
  byId("value").textContent = inUnit(signed(look.value));
  byId("value").value = look.value;
  byId("value-name").textContent = state.paper
    ? `${count(model.nTrain)} × influence, the scale of the paper` : "change on removal";
  byId("note").textContent = trust(model);
  byId("note").dataset.grade = trustGrade(model);
  byId("sentence").textContent = sentence(look);
  byId("overview-words").textContent = `Colours show how large the influence of a training point on ${labelOf(state.quantity)} typically is: ` +
    "the root mean square over all training points, or over all places. Click a dot or a place for a single influence.";
  for (const [name, show] of Object.entries(TABS)) {
    const chosen = state.tab === name, tab = byId(`tab-of-${name}`);
    byId(`tab-${name}`).hidden = !chosen;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    show(look);
  }
  byId("accuracy").textContent = accuracy(model);
}

/** Of how many test points of a region the ratio of a group is taken. */
const RATIO_POINTS = 60;

/** The region ratio of a lassoed group and a lassoed region, when the choice rests. */
export function showRatio() {
  const look = focused(), both = look && state.polygon && state.target === "region";
  byId("ratio").hidden = !both;
  if (!both) return;
  const { model, target } = look, step = Math.max(1, Math.floor(target.tests.length / RATIO_POINTS));
  const some = target.tests.filter((_, k) => k % step === 0), ratios = some.map((i) => {
    const vector = model.vectorOf(state.quantity, { tests: [i], weights: [1] });
    return shareOfGroup(model.row(vector, state.terms, 1), look.group);
  }).filter(Number.isFinite);
  byId("ratio").textContent = `At a place of the region, ${percent(ratios.reduce((a, b) => a + b, 0) / ratios.length)} of all influence comes from ` +
    `these points on average (region ratio, over ${some.length} places).`;
}

/** @param {import("./model.js").Model} model */
function accuracy(model) {
  const found = targetOf(model)?.integral ? null : model.description.errors[state.quantity];
  if (!found) return `${model.name}: of ${state.target}, see its facts.`;
  const { rows, columns } = found.together, { file_rank: fileRank, error_points: points, n_test: n, n_test_of_file: all, compression } = model.description;
  const why = `${model.rank < fileRank ? `${model.rank} of the file's ${fileRank} factors` : "all factors"}, ${model.description.bits} bits a number`;
  const stated = compression[state.quantity];
  const file = stated ? ` The file itself is compressed: ${percent(stated.training_points.p95)} at the 95th percentile of its columns.` : "";
  return `${model.name}, ${labelOf(state.quantity)}: against the score file, numbers here are off by ` +
    `${percent(rows.median)} of the largest in their row (median; 95th percentile ${percent(rows.p95)}), and by ` +
    `${percent(columns.median)} of the largest in their column (${percent(columns.p95)}): ${why}, measured at ${count(points)} ` +
    `test points. Of single loss terms, of which some hardly matter: ${percent(found.rows.median)} (${percent(found.rows.p95)}) in rows. ` +
    `${count(n)} of the file's ${count(all)} test points are here.${file}`;
}
