// What stands above and below a drawing: its title, its colour scale, and what lies behind the points.

import { css, scaleMarks } from "./colour.js";
import { FONT, ink } from "./ink.js";
import { backgroundName } from "./looks.js";
import { count, signed, tenTo, withUnit, words } from "./numbers.js";
import { isLoss, labelOf, page, pointApart, sliceWords, state, unitOf } from "./state.js";
import { isIntegral, targetUnit, targetWords } from "./targets.js";

/** @typedef {import("./panel.js").Panel} Panel */
/** @typedef {import("./looks.js").Look} Look */

/** As much of a text as there is room for. @param {CanvasRenderingContext2D} context */
export function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  while (text && context.measureText(`${text}…`).width > room) text = text.slice(0, -1);
  return text ? `${text.trimEnd()}…` : "";
}

/** @param {Panel} panel @param {Look | null} look */
export function title(panel, look) {
  const what = labelOf(state.quantity), slice = state.slice.length ? `, slice ${sliceWords()}` : "";
  if (!look) return `${panel.model.has(state.quantity) ? "no test point for this target" : `has no ${what}`}${slice}`;
  if (look.typical) return `${panel.kind === "points" ? `typical influence of each point on ${what}` : `typical influence on ${what}, place by place`}${slice}`;
  if (panel.kind === "points") return `influence of each point on ${targetWords()}${slice}`;
  const who = state.polygon ? `${count(look.group.length)} points together` : `point ◯ ${[look.point, pointApart(look)].filter(Boolean).join(", ")}`;
  const less = look.difference ? `, less that of ${page.models[state.shown[0]].name}` : "";
  return `influence of ${who} on ${what}${less}${slice}`;
}

/** For a screen reader. @param {Panel} panel @param {Look | null} look */
export const spoken = (panel, look) => `${panel.model.name}. ${title(panel, look)}. ` +
  (look ? `Value ${signed(look.value)}. ` : "") + "Arrow keys move the selection.";

/** @param {Panel} panel @param {Look | null} look */
export function drawTitle(panel, look) {
  panel.canvas.setAttribute("aria-label", spoken(panel, look));
  const c = panel.context, { left } = panel.box, end = left + panel.w;
  c.textBaseline = "alphabetic";
  c.textAlign = "left";
  c.font = `600 13px ${FONT}`;
  c.fillStyle = ink.ink;
  c.fillText(panel.model.name, left, 19);
  const start = left + c.measureText(panel.model.name).width + 8;
  c.font = `12px ${FONT}`;
  c.fillStyle = ink.faint;
  const legend = look ? drawLegend(panel, look, end, panel.narrow ? 41 : 19) : 0;
  c.fillText(fitted(c, title(panel, look), end - start - (panel.narrow ? 0 : legend + 16)), start, 19);
}

/** What the greys behind the points are. @param {Panel} panel */
export function drawBehind(panel) {
  const c = panel.context, [kind, name] = state.background.split(":"), unit = unitOf(name);
  const [low, high] = panel.behind, shade = ink.dark ? "light" : "dark";
  const scale = `grey: ${backgroundName(kind, name)}, ${words(low, 3)} to ${withUnit(words(high, 3), unit)} (${shade})`;
  c.textAlign = "left";
  c.textBaseline = "top";
  c.fillText(fitted(c, kind === "smooth" ? `behind the points: ${backgroundName(kind, name)}` : scale, panel.w),
    panel.box.left, panel.box.top + panel.h + 26);
}

/** The unit of what a panel shows. @param {Panel} panel @param {Look} look */
function unitOn(panel, look) {
  if (panel.kind === "points" && !look.typical && isIntegral()) return targetUnit();
  return isLoss(state.quantity) ? "" : unitOf(state.quantity);
}

/** The colour scale with its marks, their power of ten and unit; gives its width. @param {Panel} panel @param {Look} look */
function drawLegend(panel, look, end, y) {
  const c = panel.context, { limit } = panel.shown(look), positive = look.typical !== null;
  const { power, marks } = scaleMarks(limit, state.log, positive), bar = panel.narrow ? 120 : 150;
  const scale = [power ? `× ${tenTo(power)}` : "", unitOn(panel, look), state.log ? "(log)" : ""].filter(Boolean).join(" ");
  const raises = positive ? "" : "raises", lowers = positive ? "" : "removal lowers";
  const behind = [raises, scale].filter(Boolean).join("  ");
  const room = c.measureText(behind).width, before = c.measureText(lowers).width, x = end - room - 8 - bar;
  c.fillText(behind, x + bar + 8, y);
  c.fillText(lowers, x - before - 8, y);
  const gradient = c.createLinearGradient(x, 0, x + bar, 0), table = positive ? ink.sequential : ink.signed;
  for (let k = 0; k <= 12; k++) gradient.addColorStop(k / 12, css(table[Math.round((k / 12) * 255)]));
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
  return room + bar + before + 16;
}
