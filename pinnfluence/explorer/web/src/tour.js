// Five steps for newcomers.

import { byId, refresh } from "./redraw.js";
import { state } from "./state.js";

/** @type {{ at: string, text: string, show?: () => void }[]} */
const STEPS = [
  { at: "#panels", show: () => { state.overview = true; },
    text: "Each dot is a training point of a network that was trained to satisfy an equation. Left: how large its influence typically is. Right: where in the domain influence is large." },
  { at: "figure.points", show: () => { state.overview = false; state.target = "point"; },
    text: "The cross ✛ is a place. Colours of the dots say how the network's value there would change if a dot were removed and the network trained again: orange, the value would rise; blue, it would fall. Click a dot to choose it." },
  { at: "figure.map",
    text: "The ring ◯ is the chosen training point. This map shows its influence everywhere. Click in the map to move the cross." },
  { at: "#meaning",
    text: "The same in a sentence, with its share of the value. The coloured line says whether such predictions were compared with real retraining for this model, and how well they agreed." },
  { at: "#controls",
    text: "Draw around dots or around a region (lasso), or along a line; take single loss terms; put residuals, errors or leverage behind the points. Undo goes back, and the address of this page holds what you see." },
];

let step = -1;

/** @param {number} number of the step; one that is none ends the tour */
function go(number) {
  document.querySelector(".toured")?.classList.remove("toured");
  step = number in STEPS ? number : -1;
  byId("tour").hidden = step < 0;
  if (step < 0) return byId("start-tour").focus();
  const { at, text, show } = STEPS[step], target = document.querySelector(at);
  show?.();
  refresh();
  target.classList.add("toured");
  target.scrollIntoView({ block: "nearest" });
  byId("tour-text").textContent = text;
  byId("tour-step").textContent = `${step + 1} of ${STEPS.length}`;
  byId("tour-back").disabled = step === 0;
  byId("tour-next").textContent = step === STEPS.length - 1 ? "done" : "next";
  byId("tour-next").focus();
}

export function listenToTour() {
  byId("start-tour").addEventListener("click", () => go(0));
  byId("tour-next").addEventListener("click", () => go(step + 1));
  byId("tour-back").addEventListener("click", () => go(step - 1));
  byId("tour-end").addEventListener("click", () => go(-1));
  byId("tour").addEventListener("keydown", ({ key }) => { if (key === "Escape") go(-1); });
}
