// The formula whose parts explain themselves.

import { element } from "./elements.js";
import { count, words } from "./numbers.js";
import { byId } from "./redraw.js";
import { state } from "./state.js";
import { targetWords } from "./targets.js";

/** @typedef {import("./model.js").Model} Model */

const curvatureWords = ({ curvature, weighting, rank }) =>
  `${curvature === "gauss-newton" ? "the Gauss-Newton matrix, 2 Σ w ∇r ∇rᵀ" : `the matrix “${curvature ?? "not stated"}”`} of the loss ` +
  `${weighting === "training" ? "with the weights of the training" : "as a plain sum of squares, without the weights of the training"}` +
  `${rank === "full" ? "" : `, in its ${rank} strongest directions`}`;

/** @type {Record<string, { symbol: string, words: (look: import("./looks.js").Look) => string }>} */
const PARTS = {
  influence: { symbol: "Inf(f; z)", words: () => "The influence: by how much f changes when the training point z is taken out and the network is trained again, to first order. Positive: f rises." },
  target: { symbol: "∇f", words: () => `The target, here ${targetWords()}: which way each parameter of the network moves it.` },
  curvature: { symbol: "M", words: ({ model }) => `How stiff the loss is: ${curvatureWords(model.recipe)}. Directions in which it is flat give way most.` },
  damping: { symbol: "λ I", words: ({ model }) => `The damping, ${dampingWords(model)}: what keeps directions that no point determines from taking over.` },
  loss: { symbol: "∇ℓ(z)", words: ({ model }) => `The point's own part of the loss, through ${state.terms.length} of ${Object.keys(model.terms).length} loss terms: what stops pulling when it is gone.` },
};

/** @param {Model} model */
function dampingWords({ recipe, description }) {
  const used = description.damping;
  const chosen = recipe.damping === "auto" ? "chosen automatically" : "set";
  return used === undefined ? String(recipe.damping ?? "not stated") : `${words(used, 2)}, ${chosen}`;
}

let asked = "influence";

const part = (name) => element("button", PARTS[name].symbol, { type: "button", "data-part": name, "aria-describedby": "formula-words" });

/** Its buttons, once. @param {() => void} changed */
export function makeFormula(changed) {
  byId("formula").replaceChildren(part("influence"), " = ", part("target"), "ᵀ (", part("curvature"), " + ", part("damping"), ")⁻¹ ", part("loss"));
  for (const type of ["click", "focusin", "pointerover"]) {
    byId("formula").addEventListener(type, ({ target }) => {
      if (!(target instanceof HTMLElement) || !target.dataset.part) return;
      asked = target.dataset.part;
      changed();
    });
  }
}

/** @param {import("./looks.js").Look} look */
export function showFormula(look) {
  byId("formula-words").textContent = PARTS[asked].words(look);
  for (const button of byId("formula").children) button.setAttribute("aria-pressed", String(button.dataset.part === asked));
  byId("formula-scale").textContent = state.paper ? `Shown ${count(look.model.nTrain)} times as large, as in the paper's figures.` : "";
}
