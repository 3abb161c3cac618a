// The address holds what is chosen, so that a link leads to the same view; and Ctrl+Z.

const numbers = (text) => {
  const parts = text.split(","), values = parts.map(Number);
  return parts.every((part, i) => part.trim() !== "" && Number.isFinite(values[i])) ? values : [];
};
const modelNumber = (name) => page.models.findIndex((model) => model.name === name);
const short = (values, digits) => values.map((value) => Number(value.toPrecision(digits))).join();

function toAddress() {
  const { view, place, point } = state, { whole } = page;
  const all = allTerms().length, zoomedIn = view.x1 - view.x0 < whole.x1 - whole.x0;
  const entries = {
    quantity: state.quantity,
    place: short(place, 6),
    point: [page.models[point.model].name, point.index].join(),
    models: state.shown.map((i) => page.models[i].name).join(),
    focus: state.focus === state.shown[0] ? "" : page.models[state.focus].name,
    terms: state.terms.length < all ? state.terms.join() || "none" : "",
    scale: state.paper ? "paper" : "",
    behind: state.background === "none" ? "" : state.background,
    limits: state.percent === DEFAULTS.percent ? "" : state.percent,
    log: state.log ? 1 : "",
    same: state.same ? 1 : "",
    tool: state.lasso ? "lasso" : "",
    lasso: state.polygon ? state.polygon.flat().join() : "",
    slice: short(state.slice, 6),
    view: zoomedIn ? short([view.x0, view.x1, view.y0, view.y1], 6) : "",
  };
  return "#" + new URLSearchParams(Object.entries(entries).filter(([, value]) => value !== "")).toString();
}

const insideWhole = ([x, y]) => {
  const { x0, x1, y0, y1 } = page.whole, edge = 1e-5;
  return x >= x0 - edge * (x1 - x0) && x <= x1 + edge * (x1 - x0) && y >= y0 - edge * (y1 - y0) && y <= y1 + edge * (y1 - y0);
};

// Each reads one entry into the state, and gives whether it could.
const READERS = {
  quantity(name) {
    if (!page.models.some((model) => model.has(name))) return false;
    state.quantity = name;
    return true;
  },
  place(text) {
    const place = numbers(text);
    if (place.length !== 2 || !insideWhole(place)) return false;
    state.place = place;
    return true;
  },
  point(text) {
    const comma = text.lastIndexOf(","), model = modelNumber(text.slice(0, comma)), index = text.slice(comma + 1);
    if (model < 0 || !/^\d+$/.test(index) || Number(index) >= page.models[model].nTrain) return false;
    state.point = { model, index: Number(index) };
    return true;
  },
  models(text) {
    const shown = [...new Set(text.split(",").map(modelNumber))].sort((a, b) => a - b);
    if (shown[0] < 0) return false;
    [state.shown, state.focus] = [shown, shown[0]];
    return true;
  },
  focus(name) {
    if (!state.shown.includes(modelNumber(name))) return false;
    state.focus = modelNumber(name);
    return true;
  },
  terms(text) {
    const chosen = text === "none" ? [] : text.split(",");
    if (chosen.some((term) => !allTerms().includes(term))) return false;
    state.terms = allTerms().filter((term) => chosen.includes(term));
    return true;
  },
  behind(text) {
    state.background = text;
    if (!page.models.some(background)) state.background = "none";
    return state.background === text;
  },
  limits(text) {
    const [percent, ...more] = numbers(text);
    if (more.length || !(percent >= 80 && percent <= 100)) return false;
    state.percent = percent;
    return true;
  },
  scale: (text) => text === "removal" || (state.paper = text === "paper"),
  log: (text) => text === "0" || (state.log = text === "1"),
  same: (text) => text === "0" || (state.same = text === "1"),
  tool: (text) => text === "point" || (state.lasso = text === "lasso"),
  lasso(text) {
    const values = numbers(text), polygon = [];
    for (let k = 0; k + 1 < values.length; k += 2) polygon.push([values[k], values[k + 1]]);
    if (values.length % 2 || polygon.length < 3) return false;
    if (!state.shown.some((i) => groupOf(page.models[i], polygon).length)) return false;
    state.polygon = polygon;
    return true;
  },
  slice(text) {
    const slice = numbers(text);
    if (slice.length !== page.ranges.length) return false;
    if (slice.some((value, k) => !(value >= page.ranges[k][0] && value <= page.ranges[k][1]))) return false;
    state.slice = slice;
    return true;
  },
  view(text) {
    const [x0, x1, y0, y1, ...more] = numbers(text);
    if (more.length || !(x1 > x0 && y1 > y0) || !insideWhole([x0, y0]) || !insideWhole([x1, y1])) return false;
    const factor = (page.whole.x1 - page.whole.x0) / (x1 - x0);
    state.view = zoomed(page.whole, page.whole, factor, [(x0 + x1) / 2, (y0 + y1) / 2]);
    return true;
  },
};

// The state that an address describes; what it does not name is as at the beginning.
function fromAddress(hash) {
  begin();
  const given = [...new URLSearchParams(hash.slice(1))].filter(([, text]) => text !== "");
  const first = (name) => name === "models" || name === "slice"; // before what depends on them
  given.sort(([a], [b]) => first(b) - first(a));
  const refused = given.filter(([name, text]) => !(Object.hasOwn(READERS, name) && READERS[name](text)));
  byId("problem").hidden = refused.length === 0;
  byId("problem").textContent = "Ignored in the address, because this page has nothing of that kind: " +
    refused.map(([name, text]) => `${name}=${text.length > 60 ? text.slice(0, 60) + "…" : text}`).join("; ");
  refresh();
}

// Addresses of the views before the present one.
const before = [];
let present = null;

function remember() {
  const address = toAddress();
  if (present !== null && address !== present) before.push(present);
  if (before.length > 200) before.shift();
  present = address;
  byId("undo").disabled = before.length === 0;
}

function undo() {
  remember();
  if (before.length === 0) return announce("Nothing to undo.");
  present = before.pop();
  fromAddress(present);
}
