// Files to keep: a picture of what is seen, tables of a row, of a map, of the lists.

import { element } from "./elements.js";
import { FONT, ink, pixels } from "./ink.js";
import { fitted } from "./legend.js";
import { focused } from "./looks.js";
import { panels, refresh } from "./redraw.js";
import { coordinatesOf, isLoss, labelOf, page, placed, scaleOf, state, unitOf } from "./state.js";
import { strongest } from "./ranking.js";
import { listedRow } from "./strongest.js";
import { targetUnit, targetWords } from "./targets.js";
import { trust } from "./trust.js";

const LISTED = 100;

function save(blob, name) {
  const link = element("a", [], { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (model, what, end) =>
  [model?.name, state.quantity, what].filter(Boolean).join("_").replace(/[^\w.-]+/g, "-") + end;

/** What the picture shows, and by which recipes. */
function captions() {
  const { model, test } = focused(), scale = state.paper ? "N × influence" : "influence on removal";
  const notes = [...new Set(state.shown.map((i) => `${page.models[i].name}: ${trust(page.models[i])}`))].join("; ");
  const terms = state.terms.length ? state.terms.join(", ") : "none";
  const head = state.overview ? `${labelOf(state.quantity)}: typical influence (root mean square)`
    : state.target === "point" ? `${labelOf(state.quantity)} at ${placed(coordinatesOf(model.mesh, test))} (✛): ${scale}` : `${targetWords()}: ${scale}`;
  return [head, notes, `loss terms: ${terms}; colours to the ${state.percent}th percentile${state.log ? ", logarithmic" : ""}${state.same ? ", one scale for all models" : ""}`];
}

/** The drawings as they are seen, at twice the resolution, with what they mean. */
export function savePicture() {
  const drawn = panels.filter((panel) => !panel.canvas.closest("[hidden]"));
  const boxes = drawn.map((panel) => panel.canvas.getBoundingClientRect()), ratio = 2, edge = 16;
  const left = Math.min(...boxes.map((b) => b.left)), top = Math.min(...boxes.map((b) => b.top));
  const width = Math.max(...boxes.map((b) => b.right)) - left, height = Math.max(...boxes.map((b) => b.bottom)) - top;
  const canvas = document.createElement("canvas"), c = canvas.getContext("2d"), above = 26, below = 38;
  canvas.width = (width + 2 * edge) * ratio;
  canvas.height = (height + above + below + edge) * ratio;
  c.scale(ratio, ratio);
  c.fillStyle = ink.paper;
  c.fillRect(0, 0, canvas.width, canvas.height);
  pixels.ratio = ratio; // drawn anew: a screen of fewer pixels would give a blurred file
  drawn.forEach((panel, k) => {
    panel.draw(panel.look);
    c.drawImage(panel.canvas, boxes[k].left - left + edge, boxes[k].top - top + above, boxes[k].width, boxes[k].height);
  });
  pixels.ratio = 0;
  const [head, ...lines] = captions();
  c.fillStyle = ink.ink;
  c.font = `600 14px ${FONT}`;
  c.fillText(fitted(c, head, width), edge, 21);
  c.fillStyle = ink.faint;
  c.font = `11px ${FONT}`;
  lines.forEach((line, k) => { c.fillText(fitted(c, line, width), edge, height + above + 12 + 16 * k); });
  refresh();
  canvas.toBlob((blob) => save(blob, fileName(null, "influence", ".png")));
}

function heading(look, what, unit) {
  const units = page.description.axes.map((name) => `${name} in ${unitOf(name) || "units of the file"}`);
  return [`# ${look.model.name}: ${what}`, `# ${trust(look.model)}`, `# unit: ${unit}; ${units.join(", ")}`,
    `# scale: ${state.paper ? "paper, n_train times the change on removal" : "removal, the change when the point is removed"}`,
    `# loss terms: ${state.terms.join(" ")}`];
}

const quantityUnit = () => (isLoss(state.quantity) ? "that of a squared residual" : unitOf(state.quantity) || "that of the quantity");
const rowUnit = () => targetUnit() || (state.target === "point" ? quantityUnit() : "that of the target");

/** The target as a place or in words. */
function targetIn(look) {
  const { model, test } = look;
  if (state.target !== "point") return targetWords();
  return `${state.quantity} at test point ${model.testIndex[test]} (${coordinatesOf(model.mesh, test).join(", ")})`;
}

const csv = (lines) => `${lines.map((line) => (Array.isArray(line) ? line.join() : line)).join("\n")}\n`;

/** The row: influence of every training point on the target. */
function rowTable(look) {
  const { model } = look, terms = state.terms.filter((t) => t in model.terms);
  const parts = terms.map((term) => model.row(look.vector, [term], scaleOf(model)));
  const points = Array.from({ length: model.nTrain }, (_, j) =>
    [j, ...coordinatesOf(model, j), look.row[j], ...parts.map((part) => part[j])]);
  return csv([...heading(look, `influence of training points on ${targetIn(look)}`, rowUnit()),
    ["train_index", ...page.description.axes, "influence", ...terms], ...points]);
}

/** The map: influence of the chosen training points on the quantity at every test point. */
function mapTable(look) {
  const { model, model: { mesh } } = look, weights = new Map(look.target.tests.map((i, k) => [i, look.target.weights[k]]));
  const who = state.polygon ? `training points ${look.group.join(" ")}` : `training point ${look.point}`;
  const points = Array.from({ length: mesh.n }, (_, i) => i).filter((i) => !look.acts || look.acts[i])
    .map((i) => [model.testIndex[i], ...coordinatesOf(mesh, i), look.column[i], weights.get(i) ?? 0]);
  return csv([...heading(look, `influence of ${who} on ${state.quantity}`, quantityUnit()),
    ["test_index", ...page.description.axes, look.difference ? "difference" : "influence", "weight_in_target"], ...points]);
}

/** The lists: the strongest training points of either sign, of the listed loss term. */
function listTable(look) {
  const row = listedRow(look), term = /** @type {HTMLSelectElement} */ (document.getElementById("list-term")).value;
  const order = [...strongest(row, 1, LISTED), ...strongest(row, -1, LISTED)];
  return csv([...heading(look, `strongest training points on ${targetIn(look)}, through ${term || "the chosen loss terms"}`, rowUnit()),
    ["train_index", ...page.description.axes, "influence"],
    ...order.map((j) => [j, ...coordinatesOf(look.model, j), row[j]])]);
}

const TABLES = { row: rowTable, map: mapTable, list: listTable };

/** @param {"row" | "map" | "list"} what */
export function saveTable(what) {
  const look = focused();
  save(new Blob([TABLES[what](look)], { type: "text/csv" }), fileName(look.model, what, ".csv"));
}
