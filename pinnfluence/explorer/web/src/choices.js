// What the controls offer for a problem, and what they show of the state.

import { choice, element, options } from "./elements.js";
import { backgroundName } from "./looks.js";
import { words } from "./numbers.js";
import { byId, refresh } from "./redraw.js";
import { allTerms, halfThickness, integralNames, isLoss, labelOf, nameWithUnit, page, state } from "./state.js";
import { TARGETS } from "./targets.js";

/** Of a problem, once it is shown. */
export function fillChoices() {
  byId("model-choice").replaceChildren(element("legend", "models"), ...page.models.map((model, i) => choice("checkbox", "model", i, model.name)));
  byId("focus-choice").replaceChildren(element("legend", "details of"), ...page.models.map((model, i) => choice("radio", "focus", i, model.name)));
  byId("problem-choice").replaceChildren(...page.problems.map(({ name }, i) => element("option", name, { value: i })));
  byId("problem-field").hidden = page.problems.length < 2;
  byId("terms").replaceChildren(...allTerms().map((term) => choice("checkbox", "term", term, term)));
  byId("axis").replaceChildren(...page.description.axes.map((name, k) => element("option", name, { value: k })));
  byId("list-term").dataset.terms = "";
  const names = [...new Set(page.models.flatMap((m) => [...Object.keys(m.quantities), ...Object.keys(m.groups)].filter((name) => m.has(name))))];
  const sums = names.filter((name) => page.models.some((m) => name in m.groups));
  const fields = names.filter((name) => !sums.includes(name) && !isLoss(name));
  const losses = names.filter((name) => !sums.includes(name) && isLoss(name));
  options(byId("quantity"), { fields, "loss terms, squared residual": losses, "sums of loss terms": sums },
    (name) => (sums.includes(name) ? `${labelOf(name)} (${name})` : nameWithUnit(name)));
  byId("target").replaceChildren(...Object.entries(TARGETS).map(([value, text]) => element("option", text, { value })),
    ...integralNames().map((name) => element("option", nameWithUnit(name), { value: name })));
  fillBackgrounds(fields);
  fillSlices();
}

function fillBackgrounds(fields) {
  const named = (kind) => new Set(page.models.flatMap((m) => Object.keys(m.fields[kind])));
  const predicted = named("predicted"), reference = new Set(page.meshes.flatMap((m) => Object.keys(m.reference)));
  const behind = (kind, names) => [...names].map((name) => `${kind}:${name}`);
  const drawn = page.meshes.some((mesh) => mesh.triangles.length);
  options(byId("background"), {
    influence: ["none", ...(drawn ? ["smooth"] : [])],
    predicted: behind("predicted", fields.filter((name) => predicted.has(name))),
    reference: behind("reference", fields.filter((name) => reference.has(name))),
    error: behind("error", fields.filter((name) => predicted.has(name) && reference.has(name))),
    "estimated error, without a reference": behind("estimated", named("estimated")),
    "residual of a loss term": behind("residual", named("residual")),
    "training points": behind("leverage", named("leverage")),
    "new training points": behind("helping", named("helping")),
  }, (value) => (value === "none" ? "nothing" : backgroundName(...value.split(":"))));
  byId("background-choice").hidden = !drawn;
}

/** A slider for each coordinate that is not drawn. */
function fillSlices() {
  byId("slices").hidden = !page.ranges.length;
  byId("slices").replaceChildren(...page.ranges.map(([low, high], k) => {
    const name = page.description.axes[k + 2], half = halfThickness([low, high]);
    const slider = element("input", [], { type: "range", id: `slice-${k}`, step: "any", min: low + half, max: high - half });
    slider.addEventListener("input", () => {
      state.slice = state.slice.map((value, i) => (i === k ? Number(slider.value) : value));
      refresh();
    });
    return element("div", [element("label", [`points around ${nameWithUnit(name)} `, element("output", [], { id: `slice-value-${k}` })],
      { for: `slice-${k}` }), slider], { class: "field" });
  }));
}

const named = (name) => /** @type {HTMLInputElement[]} */ ([...document.getElementsByName(name)]);

/** Sets all controls to the state. */
export function showChoices() {
  const n = page.models.length, all = allTerms();
  for (const [id, value] of Object.entries({ quantity: state.quantity, background: state.background, percent: state.percent,
    target: state.target, axis: state.axis, "problem-choice": state.problem })) byId(id).value = value;
  byId("percent-value").textContent = `${state.percent} %`;
  state.slice.forEach((value, k) => {
    const slider = /** @type {HTMLInputElement} */ (document.getElementById(`slice-${k}`));
    slider.value = String(value);
    document.getElementById(`slice-value-${k}`).textContent = words(value, 3);
  });
  for (const name of ["log", "same", "difference"]) byId(name).checked = state[name];
  for (const name of ["same", "difference"]) byId(name).parentElement.hidden = n < 2;
  const radios = { scale: state.paper ? "paper" : "removal", tool: state.tool, focus: String(state.focus), show: state.overview ? "typical" : "selection" };
  for (const [name, value] of Object.entries(radios)) for (const input of named(name)) input.checked = input.value === value;
  for (const input of named("model")) input.checked = state.shown.includes(Number(input.value));
  for (const input of named("term")) input.checked = state.terms.includes(input.value);
  for (const input of named("focus")) input.parentElement.hidden = !state.shown.includes(Number(input.value));
  for (const [value, drawn] of Object.entries({ region: state.region, line: state.line })) byId("target").querySelector(`[value=${value}]`).disabled = !drawn;
  byId("focus-choice").hidden = state.shown.length < 2;
  byId("model-choice").hidden = n < 2;
  byId("terms-summary").textContent = state.terms.length === all.length ? `all ${all.length}` : `${state.terms.length} of ${all.length}`;
  byId("clear").hidden = !(state.polygon || state.region || state.line);
}
