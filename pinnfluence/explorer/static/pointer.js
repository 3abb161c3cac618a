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
  let start = null, moved = false, view = null, pinch = null;
  const fingers = new Map();
  const lift = ({ pointerId }) => {
    fingers.delete(pointerId);
    pinch = null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !panel.look || !panel.contains(position(event))) return;
    fingers.set(event.pointerId, position(event));
    if (fingers.size === 2) {
      start = panel.drawing = null;
      pinch = pinchOf(panel, fingers);
      canvas.setPointerCapture(event.pointerId);
      return;
    }
    [start, moved, view] = [position(event), false, state.view];
    canvas.setPointerCapture(event.pointerId);
    if (state.lasso || event.shiftKey) panel.drawing = [panel.toPlace(start)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = position(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, now);
    if (pinch) return pinched(panel, pinch, fingers);
    if (!start) return hover(panel, now, event);
    hideTooltip(panel);
    moved ||= Math.hypot(now[0] - start[0], now[1] - start[1]) > 4;
    if (panel.drawing) {
      panel.drawing.push(panel.toPlace(now));
      panel.draw(panel.look);
    } else if (moved) pan(panel, start, now, view);
  });
  canvas.addEventListener("pointerup", (event) => {
    lift(event);
    if (!start) return;
    const polygon = panel.drawing;
    panel.drawing = null;
    if (polygon && moved && polygon.length > 3) group(panel, polygon);
    else if (!moved) {
      choose(panel, nearest(pointsOf(panel), panel.toPlace(start), panel.scales(), actsOf(panel)));
    }
    start = null;
  });
  canvas.addEventListener("pointercancel", (event) => {
    lift(event);
    start = panel.drawing = null;
    refresh();
  });
  canvas.addEventListener("pointerleave", () => hideTooltip(panel));
  canvas.addEventListener("dblclick", (event) => zoom(3, panel.toPlace(position(event))));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const now = position(event);
    zoom(Math.exp(-event.deltaY / 200), panel.toPlace(now), panel.share(now));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => keyed(panel, event));
}

// Two fingers: what lies between them stays there while their distance sets the zoom.
function pinchOf(panel, fingers) {
  const [a, b] = fingers.values(), middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  return { size: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])), view: state.view, middle, place: panel.toPlace(middle) };
}

function pinched(panel, { size, view, place }, fingers) {
  const now = pinchOf(panel, fingers);
  state.view = zoomed(view, page.whole, now.size / size, place, panel.share(now.middle));
  refresh();
}

// A lasso has corners at least 3 pixels apart, in five digits: the address holds all of it.
function group(panel, drawn) {
  let last = null;
  const polygon = drawn.filter((place) => {
    const pixel = panel.toPixel(place);
    if (last && Math.hypot(pixel[0] - last[0], pixel[1] - last[1]) < 3) return false;
    last = pixel;
    return true;
  }).map((place) => place.map((c) => Number(c.toPrecision(5))));
  const lasso = onLine() ? widened(polygon) : polygon;
  if (groupOf(panel.model, lasso).length === 0) return announce("No training points inside.");
  state.polygon = lasso;
  state.focus = page.models.indexOf(panel.model);
  refresh("choose");
}

// On a line a lasso means all points from its left to its right end.
function widened(polygon) {
  const [x0, x1] = range(polygon.map(([x]) => x)), { y0, y1 } = page.whole;
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
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
    const from = panel.kind === "points" ? panel.look.point : panel.look.test;
    const step = (size) => nextPoint(points, from, direction, panel.scales(), actsOf(panel), size);
    let next = step(event.shiftKey ? (direction[0] ? panel.w : panel.h) / 10 : 1);
    if (next === from) next = step(1); // near the edge
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
  const coordinates = coordinatesOf(panel.kind === "points" ? model : model.mesh, i);
  page.description.axes.forEach((name, k) => lines.push([name, withUnit(words(coordinates[k]), unitOf(name))]));
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
  const name = isLoss(state.quantity) ? state.background.split(":")[1] : state.quantity, unit = unitOf(name);
  const lines = [], predicted = model.predicted[name], reference = model.mesh.reference[name];
  if (predicted) lines.push([`${name} predicted`, withUnit(words(predicted[i]), unit)]);
  if (reference) lines.push([`${name} reference`, withUnit(words(reference[i]), unit)]);
  if (predicted && reference) {
    const error = Math.abs(predicted[i] - reference[i]), least = roundingOf(reference);
    lines.push(["error", error < least ? `below float32 rounding, ${withUnit(words(least, 1), unit)}`
      : withUnit(words(error, 2), unit)]);
  }
  const estimated = model.estimated[name];
  if (estimated) lines.push(["estimated error", withUnit(words(estimated[i], 2), unit)]);
  return lines;
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
