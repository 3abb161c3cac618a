// Mouse, finger and keys on the drawings.

const tooltip = () => document.getElementById("tooltip");

// What a click or an arrow key on a panel chooses.
function choose(panel, index) {
  state.focus = page.models.indexOf(panel.model);
  if (panel.kind === "points") {
    state.polygon = null;
    state.point = { model: state.focus, index };
  } else state.place = at(panel.model.mesh.points, index);
  refresh("choose");
}

const pointsOf = (panel) => (panel.kind === "points" ? panel.model.points : panel.model.mesh.points);
const actsOf = (panel) => (panel.kind === "points" ? panel.look?.trainActs : panel.look?.acts);

function listen(panel) {
  const { canvas } = panel, position = (event) => [event.offsetX, event.offsetY];
  let start = null, moved = false, view = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !panel.look || !panel.contains(position(event))) return;
    [start, moved, view] = [position(event), false, state.view];
    canvas.setPointerCapture(event.pointerId);
    if (state.lasso || event.shiftKey) panel.drawing = [panel.toPlace(start)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = position(event);
    if (!start) return hover(panel, now, event);
    hideTooltip(panel);
    moved ||= Math.hypot(now[0] - start[0], now[1] - start[1]) > 4;
    if (panel.drawing) {
      panel.drawing.push(panel.toPlace(now));
      panel.draw(panel.look);
    } else if (moved) pan(panel, start, now, view);
  });
  canvas.addEventListener("pointerup", () => {
    if (!start) return;
    const polygon = panel.drawing;
    panel.drawing = null;
    if (polygon && moved && polygon.length > 3) group(panel, polygon);
    else if (!moved) {
      choose(panel, nearest(pointsOf(panel), panel.toPlace(start), panel.scales(), actsOf(panel)));
    }
    start = null;
  });
  canvas.addEventListener("pointercancel", () => { start = panel.drawing = null; refresh(); });
  canvas.addEventListener("pointerleave", () => hideTooltip(panel));
  canvas.addEventListener("dblclick", (event) => zoom(3, panel.toPlace(position(event))));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const now = position(event), [px, py] = now, { left, top } = panel.box;
    const where = [(px - left) / panel.w, 1 - (py - top) / panel.h];
    zoom(Math.exp(-event.deltaY / 200), panel.toPlace(now), where);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => keyed(panel, event));
}

function group(panel, polygon) {
  if (inside(panel.model.points, polygon).length === 0) return announce("No training points inside.");
  state.polygon = polygon;
  state.focus = page.models.indexOf(panel.model);
  refresh("choose");
}

function pan(panel, from, to, view) {
  const [sx, sy] = panel.scales(), width = view.x1 - view.x0, height = view.y1 - view.y0;
  const middle = [view.x0 + width / 2 - (to[0] - from[0]) / sx,
                  view.y0 + height / 2 + (to[1] - from[1]) / sy];
  const whole = page.whole, kept = { x0: 0, x1: width, y0: 0, y1: height };
  state.view = zoomed(kept, whole, 1, middle);
  refresh();
}

function zoom(factor, place = state.place, where) {
  state.view = zoomed(state.view, page.whole, factor, place, where);
  refresh();
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function keyed(panel, event) {
  if (!panel.look || event.altKey || event.ctrlKey || event.metaKey) return;
  const { key } = event, direction = DIRECTIONS[key];
  if (direction) {
    const points = pointsOf(panel);
    let next = panel.kind === "points" ? panel.look.point : panel.look.test;
    for (let step = 0; step < (event.shiftKey ? 8 : 1); step++) {
      next = nextPoint(points, next, direction, panel.scales(), actsOf(panel));
    }
    choose(panel, next);
    follow(at(points, next));
  } else if (key === "+" || key === "=") zoom(1.5);
  else if (key === "-") zoom(1 / 1.5);
  else if (key === "0") zoom(1e-9);
  else if (key === "g") around(panel);
  else if (key === "Escape") {
    state.polygon = null;
    refresh();
  } else return;
  event.preventDefault();
}

// Keeps what the arrow keys chose in view.
function follow([x, y]) {
  const { x0, x1, y0, y1 } = state.view;
  if (x >= x0 && x <= x1 && y >= y0 && y <= y1) return;
  state.view = zoomed(state.view, page.whole, 1, [x, y]);
  refresh();
}

// The lasso of the keyboard: a circle around the chosen point, larger each time.
function around(panel) {
  const [x, y] = at(panel.model.points, panel.look.point), [sx, sy] = panel.scales();
  panel.circle = state.polygon && panel.circle ? panel.circle * 1.5 : 12;
  const angles = Array.from({ length: 48 }, (_, k) => (k / 24) * Math.PI);
  group(panel, angles.map((a) => [x + (panel.circle / sx) * Math.cos(a), y + (panel.circle / sy) * Math.sin(a)]));
}

function hover(panel, now, event) {
  if (!panel.look || !panel.contains(now) || event.pointerType === "touch") return hideTooltip(panel);
  const place = panel.toPlace(now), { look, model } = panel;
  const i = nearest(pointsOf(panel), place, panel.scales(), actsOf(panel));
  const unit = isLoss(state.quantity) ? "" : unitOf(state.quantity);
  const value = (panel.kind === "points" ? look.row : look.column)[i];
  const lines = [["influence", withUnit(signed(value), unit)]];
  page.description.axes.forEach((name, k) =>
    lines.push([name, withUnit(words(pointsOf(panel)[2 * i + k]), unitOf(name))]));
  if (panel.kind === "map") lines.push(...fieldsAt(model, i));
  const named = panel.kind === "points" ? `training point ${i}` : `test point ${model.testIndex[i]}`;
  showTooltip(event, named, lines);
  if (panel.kind === "points" && panel.hovered !== i) {
    panel.hovered = i;
    panel.draw(look);
  }
}

// The quantity's value, or that of the field behind the points.
function fieldsAt(model, i) {
  const name = isLoss(state.quantity) ? state.background.split(":")[1] : state.quantity;
  const found = [], predicted = model.predicted[name]?.[i], reference = model.mesh.reference[name]?.[i];
  if (predicted !== undefined) found.push([`${name} predicted`, withUnit(words(predicted), unitOf(name))]);
  if (reference !== undefined) found.push([`${name} reference`, withUnit(words(reference), unitOf(name))]);
  if (found.length === 2) {
    found.push(["error", withUnit(words(Math.abs(predicted - reference)), unitOf(name))]);
  }
  return found;
}

function showTooltip(event, title, lines) {
  const box = tooltip();
  box.replaceChildren(element("strong", title), element("dl", lines.flatMap(([name, value]) =>
    [element("dt", name), element("dd", value)])));
  box.hidden = false;
  const { clientX: x, clientY: y } = event, room = box.getBoundingClientRect();
  box.style.left = `${x + 16 + room.width > innerWidth ? x - 12 - room.width : x + 16}px`;
  box.style.top = `${Math.min(y + 16, innerHeight - room.height - 8)}px`;
}

function hideTooltip(panel) {
  tooltip().hidden = true;
  if (panel?.hovered >= 0) {
    panel.hovered = -1;
    panel.draw(panel.look);
  }
}
