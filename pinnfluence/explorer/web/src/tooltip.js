// What a point is and says, beside the mouse.

import { nearest } from "./geometry.js";
import { roundingOf } from "./looks.js";
import { signed, withUnit, words } from "./numbers.js";
import { element } from "./elements.js";
import { byId } from "./redraw.js";
import { coordinatesOf, isLoss, page, state, unitOf } from "./state.js";
import { targetUnit } from "./targets.js";
import { trustShort } from "./trust.js";

/** @typedef {import("./panel.js").Panel} Panel */

/** @param {Panel} panel @param {number[]} now @param {PointerEvent} event */
export function hover(panel, now, event) {
  if (!panel.look || !panel.contains(now) || event.pointerType === "touch") return hideTooltip(panel);
  const { look, model, kind } = panel, ofPoint = kind === "points";
  const i = nearest(panel.points, panel.toPlace(now), panel.scales(), panel.acts);
  const unit = ofPoint && !look.typical ? targetUnit() : isLoss(state.quantity) ? "" : unitOf(state.quantity);
  const value = panel.shown(look).values[i], name = look.typical ? "typical influence" : look.difference && !ofPoint ? "difference" : "influence";
  const lines = [[name, withUnit(look.typical ? words(value, 2) : signed(value), unit)], ["agreement", trustShort(model)]];
  const coordinates = coordinatesOf(ofPoint ? model : model.mesh, i);
  lines.push(...page.description.axes.map((axis, k) => [axis, withUnit(words(coordinates[k]), unitOf(axis))]));
  if (ofPoint && model.fields.leverage.points) lines.push(["leverage", words(model.fields.leverage.points[i], 2)]);
  if (!ofPoint) lines.push(...fieldsAt(model, i));
  showTooltip(event, ofPoint ? `training point ${i}` : `test point ${model.testIndex[i]}`, lines);
  if (ofPoint && panel.hovered !== i) {
    panel.hovered = i;
    panel.draw(look);
  }
}

/** The quantity's value, or that of the field behind the points. @param {import("./model.js").Model} model @param {number} i */
export function fieldsAt(model, i) {
  const name = isLoss(state.quantity) ? state.background.split(":")[1] : state.quantity, unit = unitOf(name);
  const lines = [], predicted = model.fields.predicted[name], reference = model.mesh.reference[name];
  if (predicted) lines.push([`${name} predicted`, withUnit(words(predicted[i]), unit)]);
  if (reference) lines.push([`${name} reference`, withUnit(words(reference[i]), unit)]);
  if (predicted && reference) {
    const error = Math.abs(predicted[i] - reference[i]), least = roundingOf(reference);
    lines.push(["error", error < least ? `below float32 rounding, ${withUnit(words(least, 1), unit)}`
      : withUnit(words(error, 2), unit)]);
  }
  const estimated = model.fields.estimated[name];
  if (estimated) lines.push(["estimated error", withUnit(words(estimated[i], 2), unit)]);
  return lines;
}

function showTooltip(event, title, lines) {
  const box = byId("tooltip");
  box.replaceChildren(element("strong", title), element("dl", lines.flatMap(([name, value]) =>
    [element("dt", name), element("dd", value)])));
  box.hidden = false;
  const { clientX: x, clientY: y } = event, room = box.getBoundingClientRect();
  box.style.left = `${x + 16 + room.width > innerWidth ? x - 12 - room.width : x + 16}px`;
  box.style.top = `${Math.min(y + 16, innerHeight - room.height - 8)}px`;
}

/** @param {Panel} panel */
export function hideTooltip(panel) {
  byId("tooltip").hidden = true;
  if (panel.hovered >= 0) {
    panel.hovered = -1;
    panel.draw(panel.look);
  }
}
