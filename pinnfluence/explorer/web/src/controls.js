// What the controls do.

import { fromAddress, insideWhole, remember, undo } from "./address.js";
import { saveTable, savePicture } from "./export.js";
import { nearest } from "./geometry.js";
import { readInk } from "./ink.js";
import { follow, letGo } from "./keys.js";
import { focused } from "./looks.js";
import { numbersIn } from "./numbers.js";
import { zoom } from "./pointer.js";
import { announce, byId, refresh } from "./redraw.js";
import { allTerms, at, page, proportions, state } from "./state.js";

function on(id, type, act) {
  byId(id).addEventListener(type, (event) => {
    act(event.target);
    refresh();
  });
}

const checked = (name) => /** @type {HTMLInputElement[]} */ ([...document.getElementsByName(name)])
  .filter((box) => box.checked).map((box) => box.value);

export function listenToControls() {
  on("quantity", "change", (select) => { state.quantity = select.value; });
  on("background", "change", (select) => { state.background = select.value; });
  on("target", "change", (select) => Object.assign(state, { target: select.value, overview: false }));
  on("axis", "change", (select) => { state.axis = Number(select.value); });
  on("list-term", "change", () => {});
  on("percent", "input", (slider) => { state.percent = Number(slider.value); });
  for (const name of ["log", "same", "difference"]) on(name, "change", (box) => { state[name] = box.checked; });
  on("show-choice", "change", (radio) => { state.overview = radio.value === "typical"; });
  on("scale-choice", "change", (radio) => { state.paper = radio.value === "paper"; });
  on("tool-choice", "change", (radio) => { state.tool = radio.value; });
  on("focus-choice", "change", (radio) => { state.focus = Number(radio.value); });
  on("model-choice", "change", () => {
    const chosen = checked("model").map(Number);
    if (chosen.length) state.shown = chosen;
  });
  on("terms", "change", () => { state.terms = checked("term"); });
  on("terms-buttons", "click", ({ value }) => {
    if (value === undefined) return;
    const members = new Set(page.models.flatMap((model) => model.groups[value] ?? []));
    state.terms = allTerms().filter((term) => members.has(term));
  });
  byId("problem-choice").addEventListener("change", ({ target }) => {
    remember();
    fromAddress(`#${new URLSearchParams({ problem: page.problems[Number(target.value)].name })}`);
  });
  listenToButtons();
  listenToTabs();
  listenToPage();
}

function listenToButtons() {
  const clicks = { "zoom-in": () => zoom(2), "zoom-out": () => zoom(0.5), "zoom-all": () => zoom(1e-9), clear: letGo, undo,
    "save-picture": savePicture, "save-row": () => saveTable("row"), "save-map": () => saveTable("map"), "save-list": () => saveTable("list"),
    "drawer-size": () => document.body.classList.toggle("drawer-open") };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
  byId("drawer-size").addEventListener("click", ({ target }) =>
    target.setAttribute("aria-expanded", String(document.body.classList.contains("drawer-open"))));
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    find(byId("search-text").value, event.submitter?.value ?? "place");
  });
}

/** The place, or the training point nearest to it, by coordinates or by "#" and its number. @param {string} text @param {string} what */
function find(text, what) {
  const look = focused(), { model } = look ?? { model: page.models[state.focus] };
  const index = /^#\d+$/.test(text.trim()) ? Number(text.trim().slice(1)) : -1;
  const given = numbersIn(text), place = page.description.axes.length === 1 ? [given[0], 0] : given.slice(0, 2);
  const good = index >= 0 ? index < model.nTrain : given.length === page.description.axes.length && insideWhole(place);
  byId("search-text").setAttribute("aria-invalid", String(!good));
  if (!good) return announce(`Nothing there: give ${page.description.axes.join(", ")} inside the domain, or # and the number of a training point.`);
  if (given.length > 2 && index < 0) state.slice = given.slice(2).map((value, k) => Math.min(page.ranges[k][1], Math.max(page.ranges[k][0], value)));
  if (index >= 0 || what === "point") {
    state.polygon = null;
    state.point = { model: page.models.indexOf(model), index: index >= 0 ? index : nearest(model.points, place, proportions()) };
    follow(at(model.points, state.point.index));
  } else {
    Object.assign(state, { place, target: "point" });
    follow(place);
  }
  state.overview = false;
  refresh("choose");
}

function listenToTabs() {
  const tabs = /** @type {HTMLElement[]} */ ([...byId("tabs").querySelectorAll("[data-tab]")]);
  on("tabs", "click", ({ dataset }) => { state.tab = dataset.tab ?? state.tab; });
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.findIndex(({ dataset }) => dataset.tab === state.tab) + step + tabs.length) % tabs.length];
    state.tab = next.dataset.tab;
    next.focus();
    refresh();
  });
}

function listenToPage() {
  byId("theme").addEventListener("change", ({ target }) => useTheme(target.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => useTheme());
  // The event's own address: the one in the bar may have been written meanwhile.
  window.addEventListener("hashchange", ({ newURL }) => fromAddress(new URL(newURL).hash));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("terms-box").open = false;
    if (event.key.toLowerCase() !== "z" || event.shiftKey || event.altKey || !(event.ctrlKey || event.metaKey)) return;
    if (event.target instanceof HTMLInputElement && event.target.type === "text") return; // of the text
    event.preventDefault();
    undo();
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!byId("terms-box").contains(target)) byId("terms-box").open = false;
  });
  new ResizeObserver(() => refresh()).observe(byId("panels"));
}

function useTheme(theme = document.documentElement.dataset.theme) {
  document.documentElement.dataset.theme = theme;
  readInk();
  refresh();
}
