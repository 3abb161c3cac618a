// What drawings take from the page and its screen: colours, font, pixels.

import { tables } from "./colour.js";

export const FONT = '"Segoe UI", system-ui, -apple-system, "Helvetica Neue", "DejaVu Sans", sans-serif';

/** Colours of the page, read from its style. */
export const ink = {
  ink: "", faint: "", line: "", paper: "", plot: "", accent: "", dark: false, ...tables(false),
};

export function readInk() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "faint", "line", "paper", "plot", "accent"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
  ink.dark = style.colorScheme === "dark";
  Object.assign(ink, tables(ink.dark));
}

/** Pixels to a point of the screen; more while a picture is saved. */
export const pixels = { ratio: 0 };
