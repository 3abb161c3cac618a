// The sentence, the lists, the histogram of one model, and files to keep.

const byId = (id) => document.getElementById(id);

function element(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  made.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const pair = (place) => `(${Array.from(place, (c) => words(c, 3)).join(", ")})`;
const placed = (place) =>
  page.description.axes.map((name, k) => `${name} = ${withUnit(words(place[k], 3), unitOf(name))}`).join(", ");

// What a value means, in one sentence: a prediction only by a recipe that makes one.
function sentence(look) {
  const { model, value } = look, removal = value / scaleOf(model), what = state.quantity;
  const all = Object.keys(model.terms), chosen = all.filter((term) => state.terms.includes(term));
  if (chosen.length === 0) return "No loss term is chosen, so no training point counts.";
  const points = state.polygon ? `these ${count(look.group.length)} training points together` : "this training point";
  const subject = chosen.length === all.length ? `emoving ${points}` : `emoving ${chosen.join(", ")} at ${points}`;
  const where = `${isLoss(what) ? labelOf(what) : what} at ✛`;
  const size = `by ${withUnit(estimate(Math.abs(removal)), isLoss(what) ? "" : unitOf(what))}${shareOf(removal, model, look.test)}`;
  if (model.predicts) {
    return removal === 0 ? `R${subject} and training again would leave ${where} as it is, to first order.`
      : `R${subject} and training again would, to first order, ${removal > 0 ? "raise" : "lower"} ${where} ${size}.`;
  }
  const effect = removal === 0 ? `leaves ${where} as it is` : `${removal > 0 ? "raises" : "lowers"} ${where} ${size}`;
  return `In the model of this recipe, r${subject} ${effect}.`;
}

// The change as a share of the value that the network predicts there.
function shareOf(change, model, test) {
  const value = model.predicted[state.quantity]?.[test];
  return value ? `, ${estimate(100 * Math.abs(change / value))} % of the value there` : "";
}

// The same number from Python.
function expression(look) {
  const { model } = look, all = Object.keys(model.terms);
  const chosen = all.filter((term) => state.terms.includes(term));
  const options = [`"${state.quantity}"`];
  if (chosen.length < all.length) options.push(`terms=[${chosen.map((t) => `"${t}"`).join(", ")}]`);
  if (state.paper) options.push('scale="paper"');
  const matrix = options.length === 1 ? `scores[${options[0]}]` : `scores.matrix(${options.join(", ")})`;
  const row = model.testIndex[look.test];
  return state.polygon ? `${matrix}[${row}, points].sum()` : `${matrix}[${row}, ${look.point}]`;
}

function showDetails(look) {
  byId("details").hidden = !look;
  if (!look) return;
  const { model } = look, unit = isLoss(state.quantity) ? "" : unitOf(state.quantity);
  byId("value").textContent = withUnit(signed(look.value), unit);
  byId("value").value = look.value;
  byId("value-name").textContent = state.paper
    ? `${count(model.nTrain)} × influence, the scale of the paper` : "influence: change on removal";
  byId("note").textContent = model.note;
  byId("sentence").textContent = sentence(look);
  byId("expression").textContent = expression(look);
  const test = coordinatesOf(model.mesh, look.test), placeApart = apartWords(state.place, at(model.mesh.points, look.test));
  const facts = [["✛ test point", `${model.testIndex[look.test]} at ${pair(test)}${placeApart && `, ${placeApart}`}`]];
  if (state.polygon) facts.push(["training points", `${count(look.group.length)} inside the lasso`]);
  else {
    const apart = pointApart(look), { model: other, index } = state.point;
    const nearestTo = page.models[other] === model ? "" : apart
      ? `, nearest to ${index} of ${page.models[other].name}, ${apart}` : `, the place of ${index} of ${page.models[other].name}`;
    facts.push(["◯ training point", `${look.point} at ${pair(coordinatesOf(model, look.point))}${nearestTo}`]);
  }
  byId("facts").replaceChildren(...[...facts, ...fieldsAt(model, look.test)].flatMap(([name, text]) =>
    [element("dt", name), element("dd", text)]));
  showTerms(look, unit);
  for (const [id, verb, sign] of [["raise", "raises", 1], ["lower", "lowers", -1]]) {
    byId(`${id}-title`).textContent = `Removal ${verb} ${isLoss(state.quantity) ? labelOf(state.quantity) : state.quantity} most`;
    showList(id, look, strongest(look.row, sign, 10));
  }
  drawHistogram(look);
  byId("accuracy").textContent = accuracy(model);
}

// The n places of the largest values of one sign, the largest first.
function strongest(values, sign, n) {
  const best = [];
  let least = 0; // of the best, once there are n
  for (let i = 0; i < values.length; i++) {
    const value = sign * values[i];
    if (value <= least) continue;
    let k = best.length;
    while (k > 0 && sign * values[best[k - 1]] < value) k--;
    best.splice(k, 0, i);
    if (best.length > n) best.pop();
    if (best.length === n) least = sign * values[best[n - 1]];
  }
  return best;
}

function showTerms(look, unit) {
  const parts = look.model.byTerm(state.quantity, Object.keys(look.model.terms), look.test, look.group, scaleOf(look.model));
  const acting = parts.filter(({ acts }) => acts), largest = Math.max(...acting.map((p) => Math.abs(p.value)), 0);
  byId("by-term").replaceChildren(...acting.map(({ term, value }) => {
    const bar = element("span", [], { class: `bar ${value < 0 ? "lower" : "raise"}` });
    bar.style.setProperty("--share", largest ? Math.abs(value) / largest : 0);
    const row = element("tr", [element("th", term, { scope: "row" }), element("td", bar),
      element("td", withUnit(signed(value), unit), { class: "number" })]);
    if (!state.terms.includes(term)) row.className = "left-out";
    return row;
  }));
}

function showList(id, look, order) {
  const items = order.map((i) => {
    const button = element("button", [element("span", signed(look.row[i]), { class: "number" }),
      element("span", pair(coordinatesOf(look.model, i)), { class: "place" })],
      { type: "button", "aria-label": `training point ${i}: ${signed(look.row[i])} at ${placed(coordinatesOf(look.model, i))}` });
    if (i === look.point && !state.polygon) button.setAttribute("aria-current", "true");
    const panel = panels.find((p) => p.kind === "points" && p.model === look.model);
    const mark = (index) => () => { panel.hovered = index; panel.draw(panel.look); };
    button.addEventListener("click", () => choose(panel, i));
    button.addEventListener("pointerenter", mark(i));
    button.addEventListener("pointerleave", mark(-1));
    return element("li", button);
  });
  byId(id).replaceChildren(...(items.length ? items : [element("li", "none", { class: "none" })]));
}

// How often which influence: bins as wide on the colour scale, numbers on a logarithmic axis.
function drawHistogram(look) {
  const canvas = byId("histogram"), c = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight, base = height - 20, n = 41;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  const bins = new Float64Array(n);
  for (const place of normalised(look.row, look.rowLimit, state.log)) {
    bins[Math.min(n - 1, Math.max(0, Math.floor(((place + 1) / 2) * n)))]++;
  }
  const top = Math.log1p(Math.max(...bins)), bar = width / n;
  bins.forEach((number, k) => {
    const size = (Math.log1p(number) / top) * (base - 16);
    c.fillStyle = css(ink.table[Math.round((k / (n - 1)) * 255)]);
    c.strokeStyle = ink.line;
    c.fillRect(k * bar + 0.5, base - size, bar - 1, size);
    c.strokeRect(k * bar + 0.5, base - size, bar - 1, size);
  });
  c.fillStyle = ink.faint;
  c.font = `11px ${FONT}`;
  c.fillText(`most in a bin: ${count(Math.max(...bins))} of ${count(look.row.length)}`, 0, 10);
  for (const [text, x, align] of [[`≤ ${estimate(-look.rowLimit)}`, 0, "left"], ["0", width / 2, "center"],
    [`≥ ${signed(look.rowLimit)}`, width, "right"]]) {
    c.textAlign = align;
    c.fillText(text, x, height - 5);
  }
  c.textAlign = "left";
}

const share = (value) => `${Number((100 * value).toPrecision(2))} %`;

function accuracy(model) {
  const { rows, columns } = model.errors[state.quantity], reduced = model.rank < model.file_rank;
  const why = reduced ? `${model.rank} of the file's ${model.file_rank} factors, in half precision`
    : "embeddings in half precision";
  const stated = model.compression[state.quantity];
  const file = stated ? ` The file itself is compressed: ${share(stated.training_points.p95)} at the 95th percentile of its columns.` : "";
  return `${model.name}, ${labelOf(state.quantity)}: against the score file, numbers here are off by ` +
    `${share(rows.median)} of the largest in their row (median; 95th percentile ${share(rows.p95)}, largest ` +
    `${share(rows.largest)}), and by ${share(columns.median)} of the largest in their column ` +
    `(${share(columns.p95)}, ${share(columns.largest)}): ${why}, measured at ${count(model.error_points)} test points. ` +
    `${count(model.n_test)} of the file's ${count(model.n_test_of_file)} test points are here.${file}`;
}
