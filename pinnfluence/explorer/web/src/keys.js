// Keys on the drawings.

import { nextPoint, zoomed } from "./geometry.js";
import { choose, lasso, zoom } from "./pointer.js";
import { refresh } from "./redraw.js";
import { at, page, state } from "./state.js";

/** @typedef {import("./panel.js").Panel} Panel */

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** @param {Panel} panel @param {KeyboardEvent} event */
export function keyed(panel, event) {
  if (!panel.look || event.altKey || event.ctrlKey || event.metaKey) return;
  const { key } = event, direction = DIRECTIONS[key];
  if (direction) moveSelection(panel, direction, event.shiftKey);
  else if (key === "+" || key === "=") zoom(1.5);
  else if (key === "-") zoom(1 / 1.5);
  else if (key === "0") zoom(1e-9);
  else if (key === "g") around(panel);
  else if (key === "Escape") letGo();
  else return;
  event.preventDefault();
}

/** Of the group and of the region or line. */
export function letGo() {
  state.polygon = state.region = state.line = null;
  if (state.target === "region" || state.target === "line") state.target = "point";
  refresh();
}

function moveSelection(panel, direction, far) {
  const points = panel.points, from = panel.kind === "points" ? panel.look.point : panel.look.test;
  const step = (size) => nextPoint(points, from, direction, panel.scales(), panel.acts, size);
  let next = step(far ? (direction[0] ? panel.w : panel.h) / 10 : 1);
  if (next === from) next = step(1); // near the edge
  choose(panel, next);
  follow(at(points, next));
}

/** Keeps what the arrow keys chose in view. @param {number[]} place */
export function follow([x, y]) {
  const { x0, x1, y0, y1 } = state.view;
  if (x >= x0 && x <= x1 && y >= y0 && y <= y1) return;
  state.view = zoomed(state.view, page.whole, 1, [x, y]);
  refresh();
}

/** The lasso of the keyboard: a circle around the chosen point or place, larger each time. @param {Panel} panel */
function around(panel) {
  const there = panel.kind === "points", [sx, sy] = panel.scales();
  const [x, y] = there ? at(panel.model.points, panel.look.point) : at(panel.model.mesh.points, panel.look.test);
  panel.circle = (there ? state.polygon : state.region) && panel.circle ? panel.circle * 1.5 : 12;
  const angles = Array.from({ length: 48 }, (_, k) => (k / 24) * Math.PI);
  lasso(panel, angles.map((a) => [x + (panel.circle / sx) * Math.cos(a), y + (panel.circle / sy) * Math.sin(a)]));
}
