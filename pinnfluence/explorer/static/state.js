// What is chosen, and what follows from it for each model.

const state = {
  quantity: null,
  terms: [],
  paper: false, // N times the influence, the scale of the paper's figures
  shown: [], // models that are drawn
  focus: 0, // the model that the lists and the sentence are about
  background: "none",
  percent: 99.5,
  log: false,
  same: false, // one colour scale for all models
  lasso: false,
  place: null, // where influence is received, in coordinates
  point: { model: 0, index: 0 }, // what gives it; other models take their nearest point
  polygon: null, // or all training points inside
  view: null,
};

const page = { models: [], meshes: [], whole: null, description: null };

const unitOf = (name) => page.description.units[name] ?? "";
const isLoss = (name) => !(page.models.find((m) => m.has(name))?.quantities[name]?.loss === false);
const labelOf = (name) => page.description.sums[name] ?? name;
const scaleOf = (model) => (state.paper ? model.nTrain : 1);
const at = (points, i) => [points[2 * i], points[2 * i + 1]];

// Distances are those of the whole drawing, in its proportions.
function proportions() {
  const { x0, x1, y0, y1 } = page.whole;
  return page.description.equal ? [1, 1] : [1 / (x1 - x0), 1 / (y1 - y0)];
}

function chosenTest(model) {
  return nearest(model.mesh.points, state.place, proportions(), model.testSum(state.quantity).acts);
}

function chosenPoint(model) {
  if (page.models[state.point.model] === model) return state.point.index;
  const place = at(page.models[state.point.model].points, state.point.index);
  return nearest(model.points, place, proportions());
}

// All that panels and lists show of a model; null where it lacks the quantity.
function lookAt(model) {
  if (!model.has(state.quantity)) return null;
  const { acts } = model.testSum(state.quantity);
  const test = chosenTest(model), point = chosenPoint(model);
  if (test < 0) return null;
  const group = state.polygon ? inside(model.points, state.polygon) : [point];
  const factor = scaleOf(model);
  const row = model.row(state.quantity, state.terms, test, factor);
  const trainActs = model.trainActs(state.terms);
  const column = model.column(state.quantity, state.terms, group, factor);
  return {
    model, acts, trainActs, test, point, group, row, column,
    value: column[test],
    rowLimit: robustLimit(row, trainActs, state.percent),
    columnLimit: robustLimit(column, acts, state.percent),
  };
}

function looks() {
  const found = page.models.map((model, i) => (state.shown.includes(i) ? lookAt(model) : null));
  if (state.same) {
    for (const limit of ["rowLimit", "columnLimit"]) {
      const largest = Math.max(0, ...found.filter(Boolean).map((look) => look[limit]));
      for (const look of found) if (look) look[limit] = largest;
    }
  }
  return found;
}

// The field behind the points: predicted, reference or error.
function background(model) {
  const [kind, name] = state.background.split(":");
  const predicted = model.predicted[name], reference = model.mesh.reference[name];
  if (kind === "predicted" && predicted) return predicted;
  if (kind === "reference" && reference) return reference;
  if (kind === "error" && predicted && reference) {
    return predicted.map((value, i) => Math.abs(value - reference[i]));
  }
  return null;
}

// Where one begins: the strongest training point for the place in the middle of the fastest
// change, so that the first picture is not an empty one.
function begin(description) {
  const first = page.models[0], names = Object.keys(first.quantities);
  state.quantity = names.find((name) => !first.quantities[name].loss) ?? names[0];
  state.terms = [...new Set(page.models.flatMap((model) => Object.keys(model.terms)))];
  state.shown = page.models.map((_, i) => i);
  const { x0, x1, y0, y1 } = page.whole;
  state.place = [x0 + 0.3 * (x1 - x0), y0 + 0.55 * (y1 - y0)];
  state.view = { ...page.whole };
  const row = first.row(state.quantity, state.terms, chosenTest(first), 1);
  let strongest = 0;
  row.forEach((value, j) => { if (Math.abs(value) > Math.abs(row[strongest])) strongest = j; });
  state.point = { model: 0, index: strongest };
}

// The address holds what is chosen, so that a link leads to the same view.
function toAddress() {
  const { view, place, point } = state;
  const all = Object.keys(Object.assign({}, ...page.models.map((model) => model.terms)));
  const entries = {
    quantity: state.quantity,
    place: place.map((c) => Number(c.toPrecision(6))).join(),
    point: [page.models[point.model].name, point.index].join(),
    models: state.shown.map((i) => page.models[i].name).join(),
    terms: state.terms.length < all.length ? state.terms.join() || "none" : "",
    scale: state.paper ? "paper" : "",
    behind: state.background === "none" ? "" : state.background,
    limits: state.percent === 99.5 ? "" : state.percent,
    log: state.log ? 1 : "",
    view: view.x1 - view.x0 < page.whole.x1 - page.whole.x0
      ? [view.x0, view.x1, view.y0, view.y1].map((c) => Number(c.toPrecision(6))).join() : "",
  };
  const used = Object.entries(entries).filter(([, value]) => value !== "");
  return "#" + new URLSearchParams(used).toString();
}

function fromAddress(hash) {
  const given = new URLSearchParams(hash.slice(1)), read = (name, use) => {
    if (given.has(name)) use(given.get(name));
  };
  const numbers = (text, n) => {
    const found = text.split(",").map(Number);
    return found.length === n && found.every(Number.isFinite) ? found : null;
  };
  const model = (name) => page.models.findIndex((m) => m.name === name);
  read("quantity", (name) => { if (page.models.some((m) => m.has(name))) state.quantity = name; });
  read("place", (text) => { state.place = numbers(text, 2) ?? state.place; });
  read("point", (text) => {
    const [name, index] = text.split(","), i = model(name);
    if (i >= 0 && page.models[i].nTrain > Number(index)) state.point = { model: i, index: Number(index) };
  });
  read("models", (text) => {
    const found = text.split(",").map(model).filter((i) => i >= 0);
    if (found.length) [state.shown, state.focus] = [found, found[0]];
  });
  read("terms", (text) => { state.terms = state.terms.filter((t) => text.split(",").includes(t)); });
  read("scale", (text) => { state.paper = text === "paper"; });
  read("behind", (text) => { state.background = text; });
  read("limits", (text) => { state.percent = Math.min(100, Math.max(50, Number(text) || 99.5)); });
  read("log", (text) => { state.log = text === "1"; });
  read("view", (text) => {
    const v = numbers(text, 4);
    if (!v || !(v[1] > v[0])) return;
    const factor = (page.whole.x1 - page.whole.x0) / (v[1] - v[0]);
    state.view = zoomed(page.whole, page.whole, factor, [(v[0] + v[1]) / 2, (v[2] + v[3]) / 2]);
  });
}
