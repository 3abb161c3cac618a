// Colours and the limits of their scales.

import { ticks } from "d3-array";
import { words } from "./numbers.js";

// Blue, neutral, orange: distinguished by every common kind of colour blindness. The neutral middle
// recedes into the page, so the dark map is light at its ends and the light map is dark there.
const DIVERGING = {
  light: ["#08306b", "#2166ac", "#74add1", "#e9e9e6", "#f4a259", "#c8560a", "#662200"],
  dark: ["#d6ecff", "#7cc0f5", "#2f78b7", "#2a3037", "#b0601c", "#f2a14e", "#ffe6c4"],
};
// Of one sign: another hue than those of the signs, as far from the page as the value is large.
const ONE_SIGN = {
  light: ["#f6f4f7", "#dad1e7", "#b7a4d2", "#9075b9", "#6b499b", "#492773", "#290f48"],
  dark: ["#1d2229", "#3b2a57", "#5f428c", "#8863bb", "#b18bdc", "#d8bdf3", "#f6ecff"],
};
const GREYS = { light: ["#ffffff", "#8f969d"], dark: ["#14181d", "#7d8791"] };

/** Of loss terms, in their order: Okabe and Ito's colours, then their darker kin. */
export const TERM_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
  "#8c8c8c", "#b8a800", "#7f5fbf", "#4d7c2a", "#a04a4a", "#3a8a8a"];

const LOG_DECADES = 3;

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
/** @param {number[]} colour */
const packed = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/** 256 packed colours through some stops. @param {string[]} stops */
function colourTable(stops) {
  const colours = stops.map(channels);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(place));
    return packed(colours[k].map((c, j) => Math.round(c + (place - k) * (colours[k + 1][j] - c))));
  });
}

/** @param {boolean} dark */
export function tables(dark) {
  const theme = dark ? "dark" : "light";
  return { signed: colourTable(DIVERGING[theme]), greys: colourTable(GREYS[theme]), sequential: colourTable(ONE_SIGN[theme]) };
}

/** @param {number} colour */
export const css = (colour) => `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;

/**
 * The percentile of |values|, over those that count.
 * @param {Float32Array} values @param {Uint8Array | null} acts @param {number} percent
 */
export function robustLimit(values, acts, percent) {
  const all = new Float32Array(values.length);
  let n = 0;
  for (let i = 0; i < values.length; i++) if (!acts || acts[i]) all[n++] = Math.abs(values[i]);
  const sizes = all.subarray(0, n).sort();
  const limit = sizes[Math.round((percent / 100) * (n - 1))];
  return limit > 0 ? limit : sizes[n - 1] || 0;
}

/**
 * From values to places on the colour scale: -1 and 1 are the limits.
 * @param {ArrayLike<number>} values @param {number} limit @param {boolean} log
 */
export function normalised(values, limit, log) {
  const result = new Float32Array(values.length);
  if (!(limit > 0)) return result;
  const steep = 10 ** LOG_DECADES / limit, top = Math.log1p(10 ** LOG_DECADES);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    result[i] = log ? (Math.sign(value) * Math.log1p(Math.abs(value) * steep)) / top : value / limit;
  }
  return result;
}

/**
 * Marks of a colour scale from -limit (or 0) to limit: where on it, from -1 to 1, and what stands
 * there, in units of 10 to a power.
 * @param {number} limit @param {boolean} log @param {boolean} positive
 */
export function scaleMarks(limit, log, positive = false) {
  const side = (where) => (positive ? 2 * where - 1 : where), marks = [{ where: side(0), text: "0" }];
  if (!(limit > 0)) return { power: 0, marks };
  const power = Math.floor(Math.log10(limit) + 1e-9), signs = positive ? [1] : [-1, 1];
  if (log) {
    for (let k = 0; k < LOG_DECADES; k++) {
      for (const sign of signs) {
        const [where] = normalised([sign * 10 ** (power - k)], limit, true);
        marks.push({ where: side(where), text: k ? "" : sign < 0 ? "−1" : "1" });
      }
    }
    return { power, marks };
  }
  const shown = power >= -2 && power < 4 ? 0 : power;
  return { power: shown, marks: ticks(positive ? 0 : -limit, limit, 5).map((value) =>
    ({ where: side(value / limit), text: words(Number(value.toPrecision(6)) / 10 ** shown) })) };
}
