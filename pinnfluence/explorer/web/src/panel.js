// One drawing: the training points coloured by their influence on a target ("points"), or the
// influence of training points over the domain ("map").

import { ticks } from "d3-array";
import { normalised } from "./colour.js";
import { paintDots } from "./dots.js";
import { outline } from "./geometry.js";
import { FONT, ink, pixels } from "./ink.js";
import { drawBehind, drawTitle } from "./legend.js";
import { background, hasBackground, smoothedOf } from "./looks.js";
import { kept } from "./model.js";
import { range, words } from "./numbers.js";
import { Raster } from "./raster.js";
import { at, nameWithUnit, onLine, page, state } from "./state.js";

/** @typedef {import("./looks.js").Look} Look */

const HIGHEST = 420;
const rasters = new Map();

export class Panel {
  /** @param {HTMLCanvasElement} canvas @param {"points" | "map"} kind @param {import("./model.js").Model} model */
  constructor(canvas, kind, model) {
    this.canvas = canvas;
    this.kind = kind;
    this.model = model;
    this.context = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.hovered = -1;
    /** @type {number[][] | null} */
    this.drawing = null;
    /** @type {Look | null} */
    this.look = null;
    this.circle = 0;
    this.behind = [0, 0];
    this.narrow = false;
    this.box = { left: 0, top: 0, right: 0, bottom: 0 };
    this.w = this.h = this.width = this.height = 0;
    this.ratio = 1;
    this.view = state.view;
  }

  get points() { return this.kind === "points" ? this.model.points : this.model.mesh.points; }
  get acts() { return this.kind === "points" ? this.look?.trainActs : this.look?.acts; }

  arrange() {
    const { x0, x1, y0, y1 } = page.whole, width = this.canvas.clientWidth, narrow = width < 560;
    const behind = this.kind === "points" && hasBackground(this.model);
    const box = { left: 42, top: narrow ? 60 : 40, right: 12, bottom: behind ? 46 : 32 };
    const room = width - box.left - box.right, shape = page.description.equal ? (y1 - y0) / (x1 - x0) : 0.55;
    const height = Math.round(Math.max(80, Math.min(HIGHEST, room * shape)));
    const used = page.description.equal && room * shape > HIGHEST ? HIGHEST / shape : room;
    const ratio = pixels.ratio || window.devicePixelRatio || 1;
    Object.assign(this, { box, narrow, width, ratio, w: Math.round(used), h: height });
    this.view = this.seen();
    this.height = box.top + height + box.bottom;
    this.canvas.style.height = `${this.height}px`;
    const size = [Math.round(width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
  }

  /** The chosen view, with room above and below it where the panel is higher: equal axes stay equal. */
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

  /** @param {number[]} place */
  toPixel([x, y]) {
    const [sx, sy] = this.scales();
    return [this.box.left + (x - this.view.x0) * sx, this.box.top + (this.view.y1 - y) * sy];
  }

  /** @param {number[]} pixel */
  toPlace([px, py]) {
    const [sx, sy] = this.scales();
    return [this.view.x0 + (px - this.box.left) / sx, this.view.y1 - (py - this.box.top) / sy];
  }

  /** A pixel in shares of the panel, from below. @param {number[]} pixel */
  share([px, py]) {
    return [(px - this.box.left) / this.w, 1 - (py - this.box.top) / this.h];
  }

  /** @param {number[]} pixel */
  contains([px, py]) {
    const { left, top } = this.box;
    return px >= left && px <= left + this.w && py >= top && py <= top + this.h;
  }

  /** The values that colours stand for. @param {Look} look */
  shown(look) {
    if (this.kind === "points") return { values: look.typical?.row ?? look.row, limit: look.rowLimit, acts: look.trainActs };
    return { values: look.typical?.column ?? look.column, limit: look.columnLimit, acts: look.acts };
  }

  /** Places on the colour scale and its colours. A typical size begins at 0. @param {Look} look */
  coloured(look) {
    const { values, limit, acts } = this.shown(look), places = normalised(values, limit, state.log);
    if (!look.typical) return { places, acts, table: ink.signed };
    return { places: places.map((place) => 2 * place - 1), acts, table: ink.sequential };
  }

  /** @param {Look | null} look */
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
    if (look) this.drawValues(look);
    this.drawOutline();
    c.restore();
    if (look) this.drawMarks(look);
    this.drawAxes();
    drawTitle(this, look);
    if (look && this.kind === "points" && hasBackground(this.model)) drawBehind(this);
  }

  drawValues(look) {
    const { mesh } = this.model, { places, acts, table } = this.coloured(look);
    if (this.kind === "points") {
      if (hasBackground(this.model)) this.drawBackground(look, table);
      this.drawDots(this.model.points, places, acts, this.radius(look), table);
    } else {
      if (!acts) this.putImage(this.raster().paint(places, table));
      if (acts || !mesh.triangles.length) this.drawDots(mesh.points, places, acts, 3, table);
    }
  }

  drawBackground(look, table) {
    const raster = this.raster(), field = background(this.model);
    if (!field) {
      const { points } = this.model, [sx, sy] = this.scales().map((s, k) => (s * [raster.width, raster.height][k]) / [this.w, this.h][k]);
      const x = points.filter((_, k) => k % 2 === 0).map((c) => (c - this.view.x0) * sx);
      const y = points.filter((_, k) => k % 2 === 1).map((c) => (this.view.y1 - c) * sy);
      const values = smoothedOf(look, { x, y }, raster.width, raster.height), leverage = state.background !== "smooth";
      this.behind = leverage ? [0, 1] : [0, 0];
      this.putImage(raster.paintPixels(leverage || look.typical ? values.map((v) => 2 * v - 1) : values, leverage ? ink.greys : table));
      return;
    }
    const [low, high] = range(field), half = (high - low) / 2 || 1;
    this.putImage(raster.paint(field.map((v) => (v - low) / half - 1), ink.greys));
    this.behind = [low, high];
  }

  radius(look) {
    const zoom = (page.whole.x1 - page.whole.x0) / (state.view.x1 - state.view.x0);
    const n = look.trainActs ? look.trainActs.reduce((sum, one) => sum + one, 1) : this.model.nTrain;
    const apart = Math.sqrt((this.w * this.h) / n), most = hasBackground(this.model) ? 2.2 : 5.5;
    return Math.min(most, Math.max(1.5, 0.46 * apart) * Math.sqrt(zoom));
  }

  /** @returns {Raster} */
  raster() {
    const ratio = Math.min(2, this.ratio), { x0, x1, y0, y1 } = this.view;
    const size = [Math.round(this.w * ratio), Math.round(this.h * ratio)];
    const key = [state.problem, page.meshes.indexOf(this.model.mesh), ...size, x0, x1, y0, y1].join();
    if (rasters.size > 5 && !rasters.has(key)) rasters.clear();
    return kept(rasters, key, () => new Raster(this.model.mesh, this.view, size[0], size[1]));
  }

  putImage(image) {
    const { layer } = this, { width, height } = image;
    if (layer.width !== width || layer.height !== height) [layer.width, layer.height] = [width, height];
    layer.getContext("2d").putImageData(image, 0, 0);
    this.context.drawImage(layer, this.box.left, this.box.top, this.w, this.h);
  }

  drawDots(points, places, acts, radius, table) {
    const size = [this.w, this.h].map((length) => Math.round(length * this.ratio));
    const scales = this.scales().map((scale) => scale * this.ratio), faded = this.kind === "points" && hasBackground(this.model);
    if (onLine()) { // heights stand for the influence, as colours do
      points = points.map((c, k) => (k % 2 ? Math.max(-1, Math.min(1, places[(k - 1) / 2])) : c));
    }
    this.putImage(paintDots({ points, places, acts }, { size, view: this.view, scales }, table, radius * this.ratio, faded));
  }

  drawOutline() {
    const c = this.context, { mesh } = this.model;
    c.beginPath();
    for (const [a, b] of kept(mesh.cache, "outline", () => outline(mesh))) {
      const [ax, ay] = this.toPixel(at(mesh.points, a)), [bx, by] = this.toPixel(at(mesh.points, b));
      c.moveTo(ax, ay);
      c.lineTo(bx, by);
    }
    c.strokeStyle = ink.line;
    c.lineWidth = 1;
    c.stroke();
  }

  drawMarks(look) {
    const c = this.context, { left, top } = this.box;
    c.save();
    c.beginPath();
    c.rect(left - 8, top - 8, this.w + 16, this.h + 16); // whole marks on the boundary
    c.clip();
    if (this.drawing) this.path(this.drawing, false);
    else if (!state.overview) {
      if (state.polygon) this.path(state.polygon, true);
      else this.ring(at(this.model.points, look.point), 6);
      if (state.target === "region") this.path(state.region, true, [5, 4]);
      else if (state.target === "line") this.path(state.line, false, [5, 4]);
      else if (state.target === "point") this.cross(at(this.model.mesh.points, look.test));
    }
    if (this.hovered >= 0) this.ring(at(this.model.points, this.hovered), 8);
    c.restore();
  }

  /** @param {number[][]} places @param {boolean} closed @param {number[]} [dashes] */
  path(places, closed, dashes = []) {
    this.context.beginPath();
    places.forEach((place, k) => {
      const [x, y] = this.toPixel(place);
      if (k) this.context.lineTo(x, y);
      else this.context.moveTo(x, y);
    });
    if (closed) this.context.closePath();
    this.stroke([[ink.paper, 4]]);
    this.context.setLineDash(dashes);
    this.stroke([[ink.accent, 2]]);
    this.context.setLineDash([]);
  }

  /** @param {number[]} place */
  cross(place) {
    const c = this.context, [x, y] = this.toPixel(place);
    c.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      c.moveTo(x + 3 * dx, y + 3 * dy);
      c.lineTo(x + 10 * dx, y + 10 * dy);
    }
    this.stroke([[ink.paper, 4.5], [ink.ink, 2]]);
  }

  ring(place, radius) {
    const [x, y] = this.toPixel(place);
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
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
}
