// What is chosen, and what follows from it for each model.

const DEFAULTS = {
  paper: false, // N times the influence, the scale of the paper's figures
  focus: 0, // the model that the lists and the sentence are about
  background: "none",
  percent: 99.5,
  log: false,
  same: false, // one colour scale for all models
  lasso: false,
  polygon: null, // or all training points inside
};

const state = {
  ...DEFAULTS,
  quantity: null,
  terms: [],
  shown: [], // models that are drawn
  place: null, // where influence is received, in coordinates
  point: { model: 0, index: 0 }, // what gives it; other models take their nearest point
  view: null,
};

const page = { models: [], meshes: [], whole: null, description: null };

const unitOf = (name) => page.description.units[name] ?? "";
const isLoss = (name) => !(page.models.find((m) => m.has(name))?.quantities[name]?.loss === false);
const labelOf = (name) => page.description.sums[name] ?? name;
const allTerms = () => [...new Set(page.models.flatMap((model) => Object.keys(model.terms)))];
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

// How far apart two places are, in words, and nothing where they are the same.
function apartWords(from, to) {
  const offset = from.map((c, k) => to[k] - c), { x0, x1 } = page.whole, axes = page.description.axes;
  if (Math.hypot(...offset) <= 1e-6 * (x1 - x0)) return "";
  if (page.description.equal) return `${withUnit(words(Math.hypot(...offset), 2), unitOf(axes[0]))} away`;
  return axes.map((name, k) => `${withUnit(words(Math.abs(offset[k]), 2), unitOf(name))} in ${name}`).join(", ") + " away";
}

// How far a model's training point lies from the one that was chosen in another model.
const pointApart = (look) => apartWords(
  at(page.models[state.point.model].points, state.point.index), at(look.model.points, look.point));

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
  const all = page.models.map((model, i) => (state.shown.includes(i) ? lookAt(model) : null));
  if (state.same) {
    for (const limit of ["rowLimit", "columnLimit"]) {
      const largest = Math.max(0, ...all.filter(Boolean).map((look) => look[limit]));
      for (const look of all) if (look) look[limit] = largest;
    }
  }
  return all;
}

// Differences below this come from float32, in which networks compute, and are no errors.
const roundingOf = (field) => 2 ** -22 * field.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

const backgroundName = (kind, name) =>
  ({ error: `error of ${name}`, estimated: `estimated error of ${name}` })[kind] ?? `${kind} ${name}`;

// The field behind the points: predicted, reference, error, or the error that diagnose.py estimates.
function background(model) {
  const [kind, name] = state.background.split(":");
  const predicted = model.predicted[name], reference = model.mesh.reference[name];
  if (kind === "predicted" && predicted) return predicted;
  if (kind === "reference" && reference) return reference;
  if (kind === "estimated" && model.estimated[name]) return model.estimated[name].map(Math.abs);
  if (kind === "error" && predicted && reference) {
    const least = roundingOf(reference);
    return predicted.map((value, i) => {
      const error = Math.abs(value - reference[i]);
      return error < least ? 0 : error;
    });
  }
  return null;
}

// Where one begins: the strongest training point for the place in the middle of the fastest
// change, so that the first picture is not an empty one.
function begin() {
  Object.assign(state, DEFAULTS);
  const first = page.models[0], names = Object.keys(first.quantities);
  state.quantity = names.find((name) => !first.quantities[name].loss) ?? names[0];
  state.terms = allTerms();
  state.shown = page.models.map((_, i) => i);
  const { x0, x1, y0, y1 } = page.whole;
  state.place = [x0 + 0.3 * (x1 - x0), y0 + 0.55 * (y1 - y0)];
  state.view = { ...page.whole };
  const row = first.row(state.quantity, state.terms, chosenTest(first), 1);
  let strongest = 0;
  row.forEach((value, j) => { if (Math.abs(value) > Math.abs(row[strongest])) strongest = j; });
  state.point = { model: 0, index: strongest };
}
