// One drawing: the training points coloured by their influence on a place ("points"), or the
// influence of a training point over the domain ("map").

const FONT = '"Segoe UI", system-ui, -apple-system, "Helvetica Neue", "DejaVu Sans", sans-serif';
const rasters = new Map();
const ink = {}; // colours of the page, read from its style

function readInk() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "faint", "line", "paper", "plot", "accent"]) {
    ink[name] = style.getPropertyValue(`--${name}`).trim();
  }
  ink.dark = style.colorScheme === "dark";
  const theme = ink.dark ? "dark" : "light";
  [ink.table, ink.greys] = [colourTable(DIVERGING[theme]), colourTable(GREYS[theme])];
}

class Panel {
  constructor(canvas, kind, model) {
    Object.assign(this, { canvas, kind, model });
    this.context = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.hovered = -1;
  }

  arrange() {
    const { x0, x1, y0, y1 } = page.whole, width = this.canvas.clientWidth, narrow = width < 620;
    const behind = this.kind === "points" && background(this.model);
    const box = { left: 42, top: narrow ? 62 : 40, right: 12, bottom: behind ? 46 : 32 };
    const room = width - box.left - box.right;
    const most = 420, shape = page.description.equal ? (y1 - y0) / (x1 - x0) : 0.55;
    const height = Math.round(Math.max(110, Math.min(most, room * shape)));
    const used = page.description.equal && room * shape > most ? most / shape : room;
    const ratio = page.ratio ?? (window.devicePixelRatio || 1);
    Object.assign(this, { box, narrow, width, ratio, w: Math.round(used), h: height });
    this.view = this.seen();
    this.height = box.top + height + box.bottom;
    this.canvas.style.height = `${this.height}px`;
    const size = [Math.round(width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
  }

  // What is seen: the chosen view, with room above and below it where the panel is higher, so that
  // equal axes stay equal.
  seen() {
    const { x0, x1, y0, y1 } = state.view;
    if (onLine()) return { x0, x1, y0: page.whole.y0, y1: page.whole.y1 };
    if (!page.description.equal) return state.view;
    const half = ((this.h / this.w) * (x1 - x0)) / 2, middle = (y0 + y1) / 2;
    if (Math.abs(2 * half - (y1 - y0)) * this.h < 2 * half) return state.view; // less than a pixel
    return { x0, x1, y0: middle - half, y1: middle + half };
  }

  scales() {
    const { x0, x1, y0, y1 } = this.view;
    return [this.w / (x1 - x0), this.h / (y1 - y0)];
  }

  toPixel([x, y]) {
    const [sx, sy] = this.scales();
    return [this.box.left + (x - this.view.x0) * sx, this.box.top + (this.view.y1 - y) * sy];
  }

  toPlace([px, py]) {
    const [sx, sy] = this.scales();
    return [this.view.x0 + (px - this.box.left) / sx, this.view.y1 - (py - this.box.top) / sy];
  }

  // A pixel in shares of the panel, from below.
  share([px, py]) {
    return [(px - this.box.left) / this.w, 1 - (py - this.box.top) / this.h];
  }

  contains([px, py]) {
    const { left, top } = this.box;
    return px >= left && px <= left + this.w && py >= top && py <= top + this.h;
  }

  draw(look) {
    this.look = look;
    this.arrange();
    const c = this.context, { left, top } = this.box;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    c.fillStyle = ink.plot;
    c.fillRect(left, top, this.w, this.h);
    c.save();
    c.beginPath();
    c.rect(left, top, this.w, this.h);
    c.clip();
    if (look) {
      if (this.kind === "points") this.drawPoints(look);
      else this.drawMap(look);
    }
    this.drawOutline();
    c.restore();
    if (look) this.drawMarks(look);
    this.drawAxes();
    this.drawTitle(look);
    if (look && this.kind === "points" && background(this.model)) this.drawBehind();
  }

  drawPoints(look) {
    const field = background(this.model);
    if (field) {
      const [low, high] = range(field), half = (high - low) / 2 || 1;
      this.putImage(this.raster().paint(field.map((v) => (v - low) / half - 1), ink.greys));
      this.behind = [low, high];
    }
    const zoom = (page.whole.x1 - page.whole.x0) / (state.view.x1 - state.view.x0);
    const n = look.trainActs ? look.trainActs.reduce((sum, one) => sum + one, 1) : this.model.nTrain;
    const apart = Math.sqrt((this.w * this.h) / n);
    const radius = Math.min(5.5, Math.max(1.5, 0.46 * apart) * Math.sqrt(zoom));
    this.drawDots(this.model.points, look.row, look.rowLimit, radius, look.trainActs);
  }

  drawMap(look) {
    if (!look.acts) {
      const values = normalised(look.column, look.columnLimit, state.log);
      this.putImage(this.raster().paint(values, ink.table));
    }
    if (look.acts || !this.model.mesh.triangles.length) {
      this.drawDots(this.model.mesh.points, look.column, look.columnLimit, 3, look.acts);
    }
  }

  raster() {
    const ratio = Math.min(2, this.ratio), { x0, x1, y0, y1 } = this.view;
    const size = [Math.round(this.w * ratio), Math.round(this.h * ratio)];
    const key = [page.meshes.indexOf(this.model.mesh), ...size, x0, x1, y0, y1].join();
    if (!rasters.has(key)) {
      if (rasters.size > 5) rasters.clear();
      rasters.set(key, new Raster(this.model.mesh, this.view, ...size));
    }
    return rasters.get(key);
  }

  putImage(image) {
    const { layer } = this;
    if (layer.width !== image.width) layer.width = image.width;
    if (layer.height !== image.height) layer.height = image.height;
    layer.getContext("2d").putImageData(image, 0, 0);
    this.context.drawImage(layer, this.box.left, this.box.top, this.w, this.h);
  }

  drawDots(points, values, limit, radius, acts) {
    const size = [this.w, this.h].map((length) => Math.round(length * this.ratio));
    const scales = this.scales().map((scale) => scale * this.ratio);
    const places = normalised(values, limit, state.log);
    if (onLine()) { // heights stand for the influence, as colours do
      points = points.map((c, k) => (k % 2 ? Math.max(-1, Math.min(1, places[(k - 1) / 2])) : c));
    }
    this.putImage(paintDots(points, places, acts, size, this.view, scales, radius * this.ratio));
  }

  drawOutline() {
    const c = this.context, mesh = this.model.mesh;
    mesh.outline ??= outline(mesh);
    c.beginPath();
    for (const [a, b] of mesh.outline) {
      c.moveTo(...this.toPixel(at(mesh.points, a)));
      c.lineTo(...this.toPixel(at(mesh.points, b)));
    }
    c.strokeStyle = ink.line;
    c.lineWidth = 1;
    c.stroke();
  }

  drawMarks(look) {
    const c = this.context, polygon = this.drawing ?? state.polygon, { left, top } = this.box;
    c.save();
    c.beginPath();
    c.rect(left - 8, top - 8, this.w + 16, this.h + 16); // whole marks on the boundary
    c.clip();
    if (polygon?.length) {
      c.beginPath();
      polygon.forEach((place, k) => c[k ? "lineTo" : "moveTo"](...this.toPixel(place)));
      if (!this.drawing) c.closePath();
      this.stroke([[ink.paper, 4], [ink.accent, 2]]);
    }
    if (!state.polygon) this.ring(at(this.model.points, look.point), 6);
    const [x, y] = this.toPixel(at(this.model.mesh.points, look.test));
    c.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      c.moveTo(x + 3 * dx, y + 3 * dy);
      c.lineTo(x + 10 * dx, y + 10 * dy);
    }
    this.stroke([[ink.paper, 4.5], [ink.ink, 2]]);
    if (this.hovered >= 0) this.ring(at(this.model.points, this.hovered), 8);
    c.restore();
  }

  ring(place, radius) {
    this.context.beginPath();
    this.context.arc(...this.toPixel(place), radius, 0, 2 * Math.PI);
    this.stroke([[ink.paper, 4.5], [ink.ink, 2]]);
  }

  stroke(lines) {
    for (const [colour, width] of lines) {
      this.context.strokeStyle = colour;
      this.context.lineWidth = width;
      this.context.stroke();
    }
  }

  drawAxes() {
    const c = this.context, { left, top } = this.box, { x0, x1, y0, y1 } = this.view, { whole } = page;
    const [nameX, nameY = "influence"] = page.description.axes, end = left + this.w, base = top + this.h;
    c.font = `11px ${FONT}`;
    c.fillStyle = c.strokeStyle = ink.faint;
    c.lineWidth = 1;
    c.textBaseline = "top";
    c.textAlign = "center";
    c.beginPath();
    for (const tick of ticks(x0, x1, Math.max(3, this.w / 110))) {
      const [x] = this.toPixel([tick, y0]);
      c.moveTo(x, base);
      c.lineTo(x, base + 4);
      if (x < end - 36) c.fillText(words(tick), x, base + 7);
    }
    c.textAlign = "right";
    c.textBaseline = "middle";
    const heights = onLine() ? [] : ticks(Math.max(y0, whole.y0), Math.min(y1, whole.y1), Math.max(2, this.h / 45));
    for (const tick of heights) {
      const [, y] = this.toPixel([x0, tick]);
      c.moveTo(left, y);
      c.lineTo(left - 4, y);
      c.fillText(words(tick), left - 7, Math.min(y, base - 2));
    }
    c.stroke();
    c.textBaseline = "top";
    c.fillText(nameWithUnit(nameX), end, base + 7);
    c.save();
    c.translate(2, top + this.h / 2);
    c.rotate(-Math.PI / 2);
    c.textAlign = "center";
    c.fillText(nameWithUnit(nameY), 0, 0);
    c.restore();
  }

  drawTitle(look) {
    const c = this.context, { left } = this.box, end = left + this.w;
    c.textBaseline = "alphabetic";
    c.textAlign = "left";
    c.font = `600 13px ${FONT}`;
    c.fillStyle = ink.ink;
    c.fillText(this.model.name, left, 19);
    const start = left + c.measureText(this.model.name).width + 8;
    c.font = `12px ${FONT}`;
    c.fillStyle = ink.faint;
    const legend = look ? this.drawLegend(look, end, this.narrow ? 41 : 19) : 0;
    c.fillText(fitted(c, this.title(look), end - start - (this.narrow ? 0 : legend + 16)), start, 19);
  }

  // What the greys behind the points are.
  drawBehind() {
    const c = this.context, [kind, name] = state.background.split(":"), unit = unitOf(name);
    const what = backgroundName(kind, name);
    c.textAlign = "left";
    c.textBaseline = "top";
    const [low, high] = this.behind, shade = ink.dark ? "light" : "dark";
    c.fillText(fitted(c, `grey: ${what}, ${words(low, 3)} to ${withUnit(words(high, 3), unit)} (${shade})`, this.w),
      this.box.left, this.box.top + this.h + 26);
  }

  title(look) {
    const what = labelOf(state.quantity);
    const slice = state.slice.length ? `, slice ${sliceWords()}` : "";
    if (!look) return this.model.has(state.quantity) ? `no test point${slice}` : `has no ${what}`;
    if (this.kind === "points") return `influence of each point on ${what} at ✛${slice}`;
    const who = state.polygon ? `${count(look.group.length)} points together` : `point ◯ ${[look.point, pointApart(look)].filter(Boolean).join(", ")}`;
    return `influence of ${who} on ${what}${slice}`;
  }

  // The colour scale with its marks, their power of ten and unit; gives its width.
  drawLegend(look, end, y) {
    const c = this.context, limit = this.kind === "points" ? look.rowLimit : look.columnLimit;
    const { power, marks } = scaleMarks(limit, state.log), bar = this.narrow ? 130 : 160;
    const unit = isLoss(state.quantity) ? "" : unitOf(state.quantity);
    const behind = [power ? `× ${tenTo(power)}` : "", unit, state.log ? "(log)" : ""].filter(Boolean).join(" ");
    const room = c.measureText(behind).width, x = end - room - 8 - bar;
    c.fillText(behind, x + bar + 8, y);
    const gradient = c.createLinearGradient(x, 0, x + bar, 0);
    for (let k = 0; k <= 12; k++) gradient.addColorStop(k / 12, css(ink.table[Math.round((k / 12) * 255)]));
    c.fillStyle = gradient;
    c.fillRect(x, y - 9, bar, 9);
    c.fillStyle = ink.faint;
    c.font = `10.5px ${FONT}`;
    c.textAlign = "center";
    for (const { where, text } of marks) {
      const place = x + (bar * (where + 1)) / 2;
      c.fillRect(place - 0.5, y - 9, 1, 12);
      c.fillText(text, place, y + 13);
    }
    c.textAlign = "left";
    c.font = `12px ${FONT}`;
    return room + bar + 8;
  }
}

const nameWithUnit = (name) => (unitOf(name) ? `${name} (${unitOf(name)})` : name);

// As much of a text as there is room for.
function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  while (text && context.measureText(`${text}…`).width > room) text = text.slice(0, -1);
  return text ? `${text.trimEnd()}…` : "";
}
