// The address holds what is chosen, so that a link leads to the same view; and Ctrl+Z.

import { zoomed } from "./geometry.js";
import { hasBackground } from "./looks.js";
import { numbersIn } from "./numbers.js";
import { showProblem } from "./problems.js";
import { announce, byId, refresh } from "./redraw.js";
import { allTerms, begin, DEFAULTS, groupOf, inSlice, integralNames, page, state } from "./state.js";
import { lineTarget, regionTarget, TARGETS } from "./targets.js";
import { TAB_NAMES } from "./details.js";

const modelNumber = (name) => page.models.findIndex((model) => model.name === name);
const short = (values, digits) => values.map((value) => Number(value.toPrecision(digits))).join();

export function toAddress() {
  const { view, place, point } = state, { whole } = page, all = allTerms().length;
  const entries = {
    problem: page.problems.length > 1 ? page.description.name : "",
    quantity: state.quantity,
    place: short(place, 6),
    point: [page.models[point.model].name, point.index].join(),
    show: state.overview ? "" : "selection",
    models: state.shown.map((i) => page.models[i].name).join(),
    focus: state.focus === state.shown[0] ? "" : page.models[state.focus].name,
    terms: state.terms.length < all ? state.terms.join() || "none" : "",
    scale: state.paper ? "paper" : "",
    behind: state.background === "none" ? "" : state.background,
    limits: state.percent === DEFAULTS.percent ? "" : state.percent,
    log: state.log ? 1 : "",
    same: state.same ? "" : 0,
    difference: state.difference ? 1 : "",
    tool: state.tool === "point" ? "" : state.tool,
    lasso: state.polygon?.flat().join() ?? "",
    region: state.region?.flat().join() ?? "",
    line: state.line?.flat().join() ?? "",
    target: state.target === "point" ? "" : state.target,
    tab: state.tab === DEFAULTS.tab ? "" : state.tab,
    axis: state.axis ? page.description.axes[state.axis] : "",
    slice: short(state.slice, 6),
    view: view.x1 - view.x0 < whole.x1 - whole.x0 ? short([view.x0, view.x1, view.y0, view.y1], 6) : "",
  };
  const given = Object.entries(entries).filter(([, value]) => value !== "").map(([name, value]) => [name, String(value)]);
  return `#${new URLSearchParams(given)}`;
}

/** @param {number[]} place */
export const insideWhole = ([x, y]) => {
  const { x0, x1, y0, y1 } = page.whole, edge = 1e-5;
  return x >= x0 - edge * (x1 - x0) && x <= x1 + edge * (x1 - x0) && y >= y0 - edge * (y1 - y0) && y <= y1 + edge * (y1 - y0);
};

/** @param {string} text @returns {number[][]} */
function placesIn(text) {
  const values = numbersIn(text), places = [];
  for (let k = 0; k + 1 < values.length; k += 2) places.push([values[k], values[k + 1]]);
  return values.length % 2 ? [] : places;
}

/** A choice that must be one of some words; the first one is the default. */
const word = (name, values) => (text) => {
  if (!values().includes(text)) return false;
  state[name] = text;
  return true;
};
const flag = (name, yes) => (text) => {
  if (text !== yes && text !== "0") return false;
  state[name] = text === yes;
  return true;
};

/** Each reads one entry into the state, and gives whether it could. In the order of dependence. @type {Record<string, (text: string) => any>} */
const READERS = {
  problem: (name) => page.description.name === name,
  models(text) {
    const shown = [...new Set(text.split(",").map(modelNumber))].sort((a, b) => a - b);
    if (shown[0] < 0) return false;
    [state.shown, state.focus] = [shown, shown[0]];
    return true;
  },
  slice(text) {
    const slice = numbersIn(text);
    if (slice.length !== page.ranges.length) return false;
    if (slice.some((value, k) => !(value >= page.ranges[k][0] && value <= page.ranges[k][1]))) return false;
    state.slice = slice;
    return true;
  },
  quantity: word("quantity", () => page.models.flatMap((model) =>
    [...Object.keys(model.quantities), ...Object.keys(model.groups)].filter((name) => model.has(name)))),
  place(text) {
    const place = numbersIn(text);
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
  show(text) {
    if (text !== "selection" && text !== "typical") return false;
    state.overview = text === "typical";
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
    if (!page.models.some(hasBackground)) state.background = "none";
    return state.background === text;
  },
  limits(text) {
    const [percent, ...more] = numbersIn(text);
    if (more.length || !(percent >= 80 && percent <= 100)) return false;
    state.percent = percent;
    return true;
  },
  scale(text) {
    if (text !== "removal" && text !== "paper") return false;
    state.paper = text === "paper";
    return true;
  },
  log: flag("log", "1"),
  same: flag("same", "1"),
  difference: flag("difference", "1"),
  tool: word("tool", () => ["point", "lasso", "line"]),
  tab: word("tab", () => [...TAB_NAMES]),
  axis(text) {
    const axis = page.description.axes.indexOf(text);
    if (axis < 0) return false;
    state.axis = axis;
    return true;
  },
  lasso(text) {
    const polygon = placesIn(text);
    if (polygon.length < 3 || !state.shown.some((i) => groupOf(page.models[i], polygon).length)) return false;
    state.polygon = polygon;
    return true;
  },
  region(text) {
    const polygon = placesIn(text), acts = (model) => inSlice(model.mesh, model.testSum(state.quantity).acts);
    const receives = (model) => model.has(state.quantity) && regionTarget(model.mesh, polygon, acts(model));
    if (polygon.length < 3 || !state.shown.some((i) => receives(page.models[i]))) return false;
    state.region = polygon;
    return true;
  },
  line(text) {
    const line = placesIn(text);
    if (line.length !== 2 || !state.shown.some((i) => page.models[i].mesh.triangles.length && lineTarget(page.models[i].mesh, line))) return false;
    state.line = line;
    return true;
  },
  target(text) {
    const drawn = { region: state.region, line: state.line };
    if (!(text in TARGETS || integralNames().includes(text)) || (text in drawn && !drawn[text])) return false;
    state.target = text;
    return true;
  },
  view(text) {
    const [x0, x1, y0, y1, ...more] = numbersIn(text);
    if (more.length || !(x1 > x0 && y1 > y0) || !insideWhole([x0, y0]) || !insideWhole([x1, y1])) return false;
    const factor = (page.whole.x1 - page.whole.x0) / (x1 - x0);
    state.view = zoomed(page.whole, page.whole, factor, [(x0 + x1) / 2, (y0 + y1) / 2]);
    return true;
  },
};

/** The state that an address describes; what it does not name is as at the beginning. @param {string} hash */
export async function fromAddress(hash) {
  const given = [...new URLSearchParams(hash.slice(1))].filter(([, text]) => text !== "");
  const named = given.find(([name]) => name === "problem")?.[1] ?? page.problems[0].name;
  await showProblem(Math.max(0, page.problems.findIndex(({ name }) => name === named)));
  begin();
  byId("list-term").value = "";
  const order = Object.keys(READERS);
  given.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  const refused = given.filter(([name, text]) => !(Object.hasOwn(READERS, name) && READERS[name](text)));
  byId("problem").hidden = refused.length === 0;
  byId("problem").textContent = "Ignored in the address, because this page has nothing of that kind: " +
    refused.map(([name, text]) => `${name}=${text.length > 60 ? `${text.slice(0, 60)}…` : text}`).join("; ");
  refresh();
}

/** Addresses of the views before the present one. @type {string[]} */
const before = [];
/** @type {string | null} */
let present = null;

/** When the choice rests: the address, and a step that can be undone. */
export function remember() {
  const address = toAddress();
  if (present !== null && address !== present) before.push(present);
  if (before.length > 200) before.shift();
  present = address;
  byId("undo").disabled = before.length === 0;
  try {
    history.replaceState(null, "", present);
  } catch { /* some browsers forbid it for files; the link is a convenience */ }
}

export function undo() {
  remember();
  if (before.length === 0) return announce("Nothing to undo.");
  present = before.pop();
  fromAddress(present);
}
