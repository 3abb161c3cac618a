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
  slice: [], // of coordinates that are not drawn: values around which points are shown
};

const page = { models: [], meshes: [], whole: null, description: null, ranges: [] };

const unitOf = (name) => page.description.units[name] ?? "";
const isLoss = (name) => !(page.models.find((m) => m.has(name))?.quantities[name]?.loss === false);
const labelOf = (name) => page.description.sums[name] ?? name;
const allTerms = () => [...new Set(page.models.flatMap((model) => Object.keys(model.terms)))];
const scaleOf = (model) => (state.paper ? model.nTrain : 1);
const at = (points, i) => [points[2 * i], points[2 * i + 1]];
const onLine = () => page.description.axes.length === 1;

// All coordinates of a training point (of a model) or of a test point (of a mesh).
const coordinatesOf = (owner, i) =>
  [...at(owner.points, i), ...owner.others.map((values) => values[i])].slice(0, page.description.axes.length);

// A slice is so thick that about a tenth of evenly spread points is in it.
const halfThickness = ([low, high]) => (0.1 ** (1 / page.ranges.length) * (high - low)) / 2;

const sliceWords = () => state.slice.map((value, k) =>
  `${page.description.axes[k + 2]} = ${words(value, 3)} ± ${words(halfThickness(page.ranges[k]), 2)}`).join(", ");

// The points that count, of those in the slice; null where all do.
function inSlice(owner, acts) {
  if (!state.slice.length) return acts;
  const key = state.slice.join();
  if (owner.sliceKey !== key) {
    const halves = page.ranges.map((limits) => halfThickness(limits) * (1 + 1e-5));
    owner.slice = Uint8Array.from(owner.others[0], (_, i) =>
      owner.others.every((values, k) => Math.abs(values[i] - state.slice[k]) <= halves[k]));
    owner.sliceKey = key;
  }
  return acts ? owner.slice.map((seen, i) => seen && acts[i]) : owner.slice;
}

// Distances are those of the whole drawing, in its proportions.
function proportions() {
  const { x0, x1, y0, y1 } = page.whole;
  return page.description.equal ? [1, 1] : [1 / (x1 - x0), 1 / (y1 - y0)];
}

function chosenTest(model) {
  const { acts } = model.testSum(state.quantity);
  return nearest(model.mesh.points, state.place, proportions(), inSlice(model.mesh, acts));
}

function chosenPoint(model) {
  if (page.models[state.point.model] === model) return state.point.index;
  const other = page.models[state.point.model], index = state.point.index;
  const distances = other.others.map((values, k) => model.others[k].map((c) =>
    ((c - values[index]) / (page.ranges[k][1] - page.ranges[k][0])) ** 2));
  const far = distances.length ? distances[0].map((_, i) => distances.reduce((sum, d) => sum + d[i], 0)) : null;
  return nearest(model.points, at(other.points, index), proportions(), null, far);
}

// How far apart two places are, in words, and nothing where they are the same.
function apartWords(from, to) {
  const offset = from.map((c, k) => to[k] - c), { x0, x1 } = page.whole, axes = page.description.axes;
  if (Math.hypot(...offset) <= 1e-6 * (x1 - x0)) return "";
  if (page.description.equal) return `${withUnit(words(Math.hypot(...offset), 2), unitOf(axes[0]))} away`;
  return axes.slice(0, 2).map((name, k) => `${withUnit(words(Math.abs(offset[k]), 2), unitOf(name))} in ${name}`).join(", ") + " away";
}

// How far a model's training point lies from the one that was chosen in another model.
const pointApart = (look) => apartWords(
  at(page.models[state.point.model].points, state.point.index), at(look.model.points, look.point));

// The training points inside the lasso, of those in the slice.
function groupOf(model, polygon = state.polygon) {
  const seen = inSlice(model, null), members = inside(model.points, polygon);
  return seen ? members.filter((i) => seen[i]) : members;
}

// All that panels and lists show of a model; null where it lacks the quantity.
function lookAt(model) {
  if (!model.has(state.quantity)) return null;
  const acts = inSlice(model.mesh, model.testSum(state.quantity).acts);
  const test = chosenTest(model), point = chosenPoint(model);
  if (test < 0) return null;
  const group = state.polygon ? groupOf(model) : [point];
  const factor = scaleOf(model);
  const row = model.row(state.quantity, state.terms, test, factor);
  const trainActs = inSlice(model, model.trainActs(state.terms));
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
  ({ error: `error of ${name}`, estimated: `estimated error of ${name}`, helping: `where ${name} would help` })[kind] ?? `${kind} ${name}`;

// The field behind the points: predicted, reference, error; of diagnose.py the error that it
// estimates, and by what part of itself its square would fall with a new point.
function background(model) {
  const [kind, name] = state.background.split(":");
  const predicted = model.predicted[name], reference = model.mesh.reference[name];
  if (kind === "predicted" && predicted) return predicted;
  if (kind === "reference" && reference) return reference;
  if (kind === "estimated" && model.estimated[name]) return model.estimated[name].map(Math.abs);
  if (kind === "helping" && model.helping[name]) return model.helping[name];
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
  state.slice = page.ranges.map(([low, high]) => (low + high) / 2);
  const first = page.models[0], names = Object.keys(first.quantities).filter((name) => first.has(name));
  state.quantity = names.find((name) => !first.quantities[name].loss) ?? names[0];
  state.terms = allTerms();
  state.shown = page.models.map((_, i) => i);
  const { x0, x1, y0, y1 } = page.whole;
  state.place = [x0 + 0.3 * (x1 - x0), y0 + 0.55 * (y1 - y0)];
  state.view = { ...page.whole };
  const test = Math.max(0, chosenTest(first)); // a slice may have no test point
  const row = first.row(state.quantity, state.terms, test, 1);
  let strongest = 0;
  row.forEach((value, j) => { if (Math.abs(value) > Math.abs(row[strongest])) strongest = j; });
  state.point = { model: 0, index: strongest };
}
