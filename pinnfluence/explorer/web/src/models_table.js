// All models that are shown, beside each other.

import { element } from "./elements.js";
import { view } from "./looks.js";
import { estimate, signed, words } from "./numbers.js";
import { at, apartWords, pointApart, state } from "./state.js";
import { inUnit, predictedAt } from "./targets.js";
import { trustShort } from "./trust.js";

import { byId } from "./redraw.js";

const COLUMNS = ["model", "influence", "of its value", "◯ away", "✛ away", "estimated error", "agreement with retraining"];

const bare = (text) => text.replace(/ away$/, "") || "0";

export function showModels() {
  if (state.tab !== "models") return;
  const rows = view.current.filter(Boolean).map((look) => {
    const { model, target, test } = look, value = predictedAt(model, target), estimated = model.fields.estimated[state.quantity];
    const cells = [inUnit(signed(look.value)), value ? `${words(100 * Math.abs(look.value / value), 2)} %` : "–",
      state.polygon ? `${look.group.length} points` : bare(pointApart(look)),
      state.target === "point" ? bare(apartWords(state.place, at(model.mesh.points, test))) : "–",
      estimated && state.target === "point" ? inUnit(estimate(estimated[test])) : "–", trustShort(model)];
    return element("tr", [element("th", model.name, { scope: "row" }), ...cells.map((text) => element("td", text))]);
  });
  byId("models-table").replaceChildren(element("thead", element("tr", COLUMNS.map((name) => element("th", name, { scope: "col" })))),
    element("tbody", rows));
}
