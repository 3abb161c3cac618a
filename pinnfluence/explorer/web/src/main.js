// The page: read, drawn, and listening.

import { fromAddress, remember, toAddress } from "./address.js";
import { showChoices } from "./choices.js";
import { listenToControls } from "./controls.js";
import { sentence, showDetails, showRatio } from "./details.js";
import { makeFormula } from "./formula.js";
import { readInk } from "./ink.js";
import { background, focused, view } from "./looks.js";
import { announce, byId, draw, listeners, panels, refresh } from "./redraw.js";
import { page, state } from "./state.js";
import { computeAlong } from "./terms.js";
import { listenToTour } from "./tour.js";

// For scripts and tests: what is chosen, and where a place lies in the window.
Object.assign(window, { explorer: {
  state, page, refresh, background, focused, looks: () => view.current, address: toAddress, open: fromAddress,
  pixelOf(name, kind, place) {
    const panel = panels.find((p) => p.model.name === name && p.kind === kind);
    const { left, top } = panel.canvas.getBoundingClientRect(), [x, y] = panel.toPixel(place);
    return [left + x, top + y];
  },
} });

function speak() {
  const look = focused();
  if (look) announce(`${look.model.name}: ${sentence(look)}`);
}

async function start() {
  page.problems = JSON.parse(byId("description").textContent).problems;
  readInk();
  makeFormula(refresh);
  await fromAddress(location.hash);
  listeners.drawn.push(showDetails, showChoices);
  listeners.rested.push(speak, remember, showRatio, computeAlong);
  listenToControls();
  listenToTour();
  draw();
  document.body.dataset.ready = "true";
  performance.mark("ready");
}

start().catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `This page could not be drawn: ${error.message}. It needs a browser of 2023 or later.`;
  console.error(error);
});
