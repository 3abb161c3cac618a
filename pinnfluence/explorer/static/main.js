// Controls, and the one function that draws all that is chosen.

const panels = [];
let current = [];

const focused = () => current[state.focus] ?? current.find(Boolean);

function announce(text) {
  byId("status").textContent = text;
}

let waiting = false, asked = 0, later = 0;

// Draws in the next frame; however many changes come before, once.
function refresh(reason) {
  if (reason === "choose") asked = performance.now();
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    if (asked) performance.measure("choose", { start: asked, end: performance.now() });
    asked = 0;
  });
}

function draw() {
  if (!state.shown.includes(state.focus)) state.focus = state.shown[0];
  current = looks();
  panels.forEach((panel) => {
    const i = page.models.indexOf(panel.model), shown = state.shown.includes(i);
    panel.canvas.closest("figure").hidden = !shown;
    if (!shown) return;
    panel.draw(current[i]);
    panel.canvas.setAttribute("aria-label", `${panel.model.name}. ${panel.title(current[i])}. ` +
      (current[i] ? `Value ${signed(current[i].value)}. ` : "") + "Arrow keys move the selection.");
  });
  document.body.dataset.models = state.shown.length;
  showDetails(focused());
  showChoices();
  clearTimeout(later);
  later = setTimeout(afterwards, 300);
}

// What can wait until the choice rests: the voice of a screen reader, and the address.
function afterwards() {
  if (focused()) announce(`${focused().model.name}: ${sentence(focused())}`);
  remember();
  try {
    history.replaceState(null, "", present);
  } catch { /* some browsers forbid it for files; the link is a convenience */ }
}

// ---- controls

function showChoices() {
  const n = page.models.length, all = allTerms();
  byId("quantity").value = state.quantity;
  byId("background").value = state.background;
  byId("percent").value = state.percent;
  byId("percent-value").textContent = `${state.percent} %`;
  state.slice.forEach((value, k) => {
    byId(`slice-${k}`).value = value;
    byId(`slice-value-${k}`).textContent = words(value, 3);
  });
  byId("log").checked = state.log;
  byId("same").checked = state.same;
  byId("same").disabled = state.shown.length < 2;
  for (const [name, value] of [["scale", state.paper ? "paper" : "removal"], ["tool", state.lasso ? "lasso" : "point"], ["focus", String(state.focus)]]) {
    for (const input of document.getElementsByName(name)) input.checked = input.value === value;
  }
  for (const input of document.getElementsByName("model")) input.checked = state.shown.includes(Number(input.value));
  for (const input of document.getElementsByName("term")) input.checked = state.terms.includes(input.value);
  for (const input of document.getElementsByName("focus")) input.parentElement.hidden = !state.shown.includes(Number(input.value));
  byId("focus-choice").hidden = state.shown.length < 2;
  byId("model-choice").hidden = n < 2;
  byId("terms-summary").textContent = state.terms.length === all.length ? `all ${all.length}` : `${state.terms.length} of ${all.length}`;
  byId("clear").hidden = !state.polygon;
}

function choice(kind, name, value, text) {
  return element("label", [element("input", [], { type: kind, name, value }), element("span", text)]);
}

function fillChoices() {
  page.models.forEach((model, i) => {
    byId("model-choice").append(choice("checkbox", "model", i, model.name));
    byId("focus-choice").append(choice("radio", "focus", i, model.name));
  });
  byId("terms").append(...allTerms().map((term) => choice("checkbox", "term", term, term)));
  const names = [...new Set(page.models.flatMap((m) =>
    [...Object.keys(m.quantities), ...Object.keys(m.groups)].filter((name) => m.has(name))))];
  const sums = names.filter((name) => page.models.some((m) => name in m.groups));
  const fields = names.filter((name) => !sums.includes(name) && !isLoss(name));
  const losses = names.filter((name) => !sums.includes(name) && isLoss(name));
  options(byId("quantity"), { "fields": fields, "loss terms, squared residual": losses, "sums of loss terms": sums },
    (name) => (sums.includes(name) ? `${labelOf(name)} (${name})` : nameWithUnit(name)));
  const predicted = new Set(page.models.flatMap((m) => Object.keys(m.predicted)));
  const reference = new Set(page.meshes.flatMap((m) => Object.keys(m.reference)));
  const estimated = new Set(page.models.flatMap((m) => Object.keys(m.estimated)));
  const helping = [...new Set(page.models.flatMap((m) => Object.keys(m.helping)))];
  const behind = (kind, available) => fields.filter(available).map((name) => `${kind}:${name}`);
  options(byId("background"), {
    predicted: behind("predicted", (name) => predicted.has(name)),
    reference: behind("reference", (name) => reference.has(name)),
    error: behind("error", (name) => predicted.has(name) && reference.has(name)),
    "estimated error, without a reference": behind("estimated", (name) => estimated.has(name)),
    "new training points": helping.map((name) => `helping:${name}`),
  }, (value) => backgroundName(...value.split(":")));
  const drawn = page.meshes.some((mesh) => mesh.triangles.length);
  byId("background-choice").hidden = !drawn || byId("background").options.length < 2;
  fillSlices();
}

// A slider for each coordinate that is not drawn.
function fillSlices() {
  byId("slices").append(...page.ranges.map(([low, high], k) => {
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

function options(select, groups, text) {
  for (const [label, values] of Object.entries(groups)) {
    if (!values.length) continue;
    select.append(element("optgroup", values.map((value) => element("option", text(value), { value })), { label }));
  }
}

function on(id, type, act) {
  byId(id).addEventListener(type, (event) => {
    act(event.target);
    refresh();
  });
}

function listenToControls() {
  on("quantity", "change", (select) => { state.quantity = select.value; });
  on("background", "change", (select) => { state.background = select.value; });
  on("percent", "input", (slider) => { state.percent = Number(slider.value); });
  on("log", "change", (box) => { state.log = box.checked; });
  on("same", "change", (box) => { state.same = box.checked; });
  on("scale-choice", "change", (radio) => { state.paper = radio.value === "paper"; });
  on("tool-choice", "change", (radio) => { state.lasso = radio.value === "lasso"; });
  on("focus-choice", "change", (radio) => { state.focus = Number(radio.value); });
  on("model-choice", "change", () => {
    const chosen = [...document.getElementsByName("model")].filter((box) => box.checked).map((box) => Number(box.value));
    if (chosen.length) state.shown = chosen;
  });
  on("terms", "change", () => {
    state.terms = [...document.getElementsByName("term")].filter((box) => box.checked).map((box) => box.value);
  });
  on("terms-buttons", "click", ({ value }) => {
    if (value === undefined) return;
    const members = new Set(page.models.flatMap((model) => model.groups[value] ?? []));
    state.terms = allTerms().filter((term) => members.has(term));
  });
  on("clear", "click", () => { state.polygon = null; });
  byId("zoom-in").addEventListener("click", () => zoom(2));
  byId("zoom-out").addEventListener("click", () => zoom(0.5));
  byId("zoom-all").addEventListener("click", () => zoom(1e-9));
  byId("save-picture").addEventListener("click", savePicture);
  byId("save-row").addEventListener("click", () => saveTable(rowTable(), "row"));
  byId("save-map").addEventListener("click", () => saveTable(mapTable(), "map"));
  byId("theme").addEventListener("change", ({ target }) => useTheme(target.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => useTheme());
  byId("undo").addEventListener("click", undo);
  window.addEventListener("hashchange", () => fromAddress(location.hash));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("terms-box").open = false;
    if (event.key.toLowerCase() !== "z" || event.shiftKey || event.altKey || !(event.ctrlKey || event.metaKey)) return;
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

// For scripts and tests: what is chosen, and where a place lies in the window.
window.explorer = {
  state,
  page,
  refresh,
  address: toAddress,
  background,
  pixelOf(name, kind, place) {
    const panel = panels.find((p) => p.model.name === name && p.kind === kind);
    const { left, top } = panel.canvas.getBoundingClientRect(), [x, y] = panel.toPixel(place);
    return [left + x, top + y];
  },
};

// ---- start

async function start() {
  const description = JSON.parse(byId("description").textContent);
  page.description = description;
  const buffers = (kind, list) => Promise.all(list.map((_, i) => readBlob(`${kind}${i}`)));
  const meshes = await buffers("mesh", description.meshes);
  page.meshes = description.meshes.map((mesh, i) => new Mesh(mesh, meshes[i]));
  const models = await buffers("model", description.models);
  page.models = description.models.map((model, i) => new Model(model, models[i], page.meshes[model.mesh]));
  const everything = [...page.meshes, ...page.models].map(({ points }) => fullView(points));
  page.whole = {
    x0: Math.min(...everything.map((v) => v.x0)), x1: Math.max(...everything.map((v) => v.x1)),
    y0: Math.min(...everything.map((v) => v.y0)), y1: Math.max(...everything.map((v) => v.y1)),
  };
  if (onLine()) Object.assign(page.whole, { y0: -1.05, y1: 1.05 });
  page.ranges = description.axes.slice(2).map((_, k) =>
    range([...page.meshes, ...page.models].flatMap(({ others }) => range(others[k]))));
  const shape = (page.whole.x1 - page.whole.x0) / (page.whole.y1 - page.whole.y0);
  document.body.dataset.shape = description.equal && shape > 2 ? "wide" : "square";
  byId("axes-names").textContent = description.axes.join(", ");
  byId("slices").hidden = !page.ranges.length;
  readInk();
  fillChoices();
  for (const model of page.models) {
    for (const kind of ["points", "map"]) {
      const canvas = element("canvas", [], { tabindex: 0, role: "img" });
      byId("panels").append(element("figure", canvas, { class: kind }));
      panels.push(new Panel(canvas, kind, model));
      listen(panels.at(-1));
    }
  }
  fromAddress(location.hash);
  listenToControls();
  draw();
  document.body.dataset.ready = "true";
  performance.mark("ready");
}

start().catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `This page could not be drawn: ${error.message}. It needs a browser of 2023 or later.`;
  console.error(error);
});
