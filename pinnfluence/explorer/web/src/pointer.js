// Mouse and fingers on the drawings.

import { nearest, zoomed } from "./geometry.js";
import { range } from "./numbers.js";
import { announce, refresh } from "./redraw.js";
import { at, groupOf, onLine, page, state } from "./state.js";
import { lineTarget, regionTarget } from "./targets.js";
import { hideTooltip, hover } from "./tooltip.js";

/** @typedef {import("./panel.js").Panel} Panel */

/** What a click or an arrow key on a panel chooses. @param {Panel} panel @param {number} index */
export function choose(panel, index) {
  state.focus = page.models.indexOf(panel.model);
  state.overview = false;
  if (panel.kind === "points") {
    state.polygon = null;
    state.point = { model: state.focus, index };
  } else {
    state.target = "point";
    state.place = at(panel.model.mesh.points, index);
  }
  refresh("choose");
}

/** @param {Panel} panel */
export function listen(panel) {
  const { canvas } = panel, gesture = new Gesture(panel);
  canvas.addEventListener("pointerdown", (event) => gesture.down(event));
  canvas.addEventListener("pointermove", (event) => gesture.move(event));
  canvas.addEventListener("pointerup", (event) => gesture.up(event));
  canvas.addEventListener("pointercancel", (event) => gesture.cancel(event));
  canvas.addEventListener("pointerleave", () => hideTooltip(panel));
  canvas.addEventListener("dblclick", (event) => zoom(3, panel.toPlace(position(event))));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const now = position(event);
    zoom(Math.exp(-event.deltaY / 200), panel.toPlace(now), panel.share(now));
  }, { passive: false });
}

/** @param {MouseEvent} event */
const position = (event) => [event.offsetX, event.offsetY];

/** One finger or mouse button: a click, a move of the view, or a lasso; two fingers: a zoom. */
class Gesture {
  /** @param {Panel} panel */
  constructor(panel) {
    this.panel = panel;
    /** @type {Map<number, number[]>} */
    this.fingers = new Map();
    this.clear();
  }

  clear() {
    this.start = null;
    this.pinch = null;
    this.moved = false;
    this.panel.drawing = null;
  }

  down(event) {
    const { panel } = this, now = position(event);
    if (event.button || !panel.look || !panel.contains(now)) return;
    this.fingers.set(event.pointerId, now);
    panel.canvas.setPointerCapture(event.pointerId);
    const second = this.fingers.size === 2;
    this.clear();
    if (second) this.pinch = pinchOf(panel, this.fingers);
    if (this.fingers.size > 1) return;
    this.start = now;
    this.view = state.view;
    if (state.tool !== "point" || event.shiftKey) panel.drawing = [panel.toPlace(now)];
  }

  move(event) {
    const { panel, start } = this, now = position(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, now);
    if (this.pinch) return pinched(panel, this.pinch, this.fingers);
    if (!start) return hover(panel, now, event);
    hideTooltip(panel);
    this.moved ||= Math.hypot(now[0] - start[0], now[1] - start[1]) > 4;
    if (panel.drawing) {
      if (state.tool === "line") panel.drawing.length = 1;
      panel.drawing.push(panel.toPlace(now));
      panel.draw(panel.look);
    } else if (this.moved) pan(panel, start, now, this.view);
  }

  up(event) {
    const { panel, start, moved } = this, { drawing } = panel;
    this.fingers.delete(event.pointerId);
    this.clear();
    if (!start) return;
    if (!moved) choose(panel, nearest(panel.points, panel.toPlace(start), panel.scales(), panel.acts));
    else if (drawing && state.tool === "line") chooseLine(panel, drawing);
    else if (drawing?.length > 3) lasso(panel, drawing);
    else if (drawing) refresh();
  }

  cancel(event) {
    this.fingers.delete(event.pointerId);
    this.clear();
    refresh();
  }
}

/** Two fingers: what lies between them stays there while their distance sets the zoom. */
function pinchOf(panel, fingers) {
  const [a, b] = fingers.values(), middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  return { size: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])), view: state.view, middle, place: panel.toPlace(middle) };
}

function pinched(panel, { size, view, place }, fingers) {
  const now = pinchOf(panel, fingers);
  state.view = zoomed(view, page.whole, now.size / size, place, panel.share(now.middle));
  refresh();
}

const short = (place) => place.map((c) => Number(c.toPrecision(5)));

/**
 * A lasso has corners at least 3 pixels apart, in five digits: the address holds all of it. Around
 * training points it makes a group of them, in a map it makes a region of the target.
 * @param {Panel} panel @param {number[][]} drawn
 */
export function lasso(panel, drawn) {
  let last = null;
  const polygon = drawn.filter((place) => {
    const pixel = panel.toPixel(place);
    if (last && Math.hypot(pixel[0] - last[0], pixel[1] - last[1]) < 3) return false;
    last = pixel;
    return true;
  }).map(short);
  const closed = onLine() ? widened(polygon) : polygon;
  if (panel.kind === "map") return chooseRegion(panel, closed);
  if (groupOf(panel.model, closed).length === 0) return missed("No training points inside.");
  state.polygon = closed;
  chosen(panel);
}

function missed(text) {
  announce(text);
  refresh();
}

function chosen(panel) {
  state.focus = page.models.indexOf(panel.model);
  state.overview = false;
  refresh("choose");
}

function chooseRegion(panel, polygon) {
  if (!regionTarget(panel.model.mesh, polygon, panel.acts)) return missed("No test points inside.");
  Object.assign(state, { region: polygon, target: "region" });
  chosen(panel);
}

/** @param {Panel} panel @param {number[][]} ends */
function chooseLine(panel, [from, to]) {
  const line = [short(from), short(to)];
  if (panel.acts || onLine() || !panel.model.mesh.triangles.length) return missed("This quantity has no values along a line.");
  if (!lineTarget(panel.model.mesh, line)) return missed("This line is not in the domain.");
  Object.assign(state, { line, target: "line" });
  chosen(panel);
}

/** On a line a lasso means all points from its left to its right end. */
function widened(polygon) {
  const [x0, x1] = range(polygon.map(([x]) => x)), { y0, y1 } = page.whole;
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

function pan(panel, from, to, view) {
  const [sx, sy] = panel.scales(), width = view.x1 - view.x0, height = view.y1 - view.y0;
  const middle = [view.x0 + width / 2 - (to[0] - from[0]) / sx, view.y0 + height / 2 + (to[1] - from[1]) / sy];
  state.view = zoomed({ x0: 0, x1: width, y0: 0, y1: height }, page.whole, 1, middle);
  refresh();
}

/** @param {number} factor @param {number[]} [place] @param {number[]} [where] */
export function zoom(factor, place = state.place, where) {
  state.view = zoomed(state.view, page.whole, factor, place, where);
  refresh();
}
