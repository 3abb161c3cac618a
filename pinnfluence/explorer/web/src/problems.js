// The problems of the page: each is read when it is first shown.

import { fillChoices } from "./choices.js";
import { element } from "./elements.js";
import { fullView } from "./geometry.js";
import { keyed } from "./keys.js";
import { Mesh, Model } from "./model.js";
import { range } from "./numbers.js";
import { Panel } from "./panel.js";
import { readBlob } from "./payload.js";
import { listen } from "./pointer.js";
import { byId, panels } from "./redraw.js";
import { onLine, page, state } from "./state.js";

/** @type {(Promise<{ models: Model[], meshes: Mesh[] }> | undefined)[]} */
const read = [];

async function readProblem({ meshes: meshDescriptions, models: modelDescriptions }) {
  const buffers = (list) => Promise.all(list.map(({ blob }) => readBlob(blob)));
  const [ofMeshes, ofModels] = await Promise.all([buffers(meshDescriptions), buffers(modelDescriptions)]);
  const meshes = meshDescriptions.map((mesh, i) => new Mesh(mesh, ofMeshes[i]));
  return { meshes, models: modelDescriptions.map((model, i) => new Model(model, ofModels[i], meshes[model.mesh])) };
}

/** What all drawings of a problem span. */
function span() {
  const all = [...page.meshes, ...page.models].map(({ points }) => fullView(points));
  page.whole = {
    x0: Math.min(...all.map((v) => v.x0)), x1: Math.max(...all.map((v) => v.x1)),
    y0: Math.min(...all.map((v) => v.y0)), y1: Math.max(...all.map((v) => v.y1)),
  };
  if (onLine()) Object.assign(page.whole, { y0: -1.05, y1: 1.05 });
  page.ranges = page.description.axes.slice(2).map((_, k) =>
    range([...page.meshes, ...page.models].flatMap(({ others }) => range(others[k]))));
}

/** Makes a problem the one that is shown. @param {number} i */
export async function showProblem(i) {
  const description = page.problems[i];
  if (page.description === description) return;
  read[i] ??= readProblem(description);
  const { models, meshes } = await read[i];
  Object.assign(page, { description, models, meshes });
  state.problem = i;
  span();
  const shape = (page.whole.x1 - page.whole.x0) / (page.whole.y1 - page.whole.y0);
  document.body.dataset.shape = description.equal && shape > 2 ? "wide" : "square";
  byId("axes-names").textContent = description.axes.join(", ");
  fillChoices();
  panels.length = 0;
  byId("panels").replaceChildren(...models.flatMap((model) => /** @type {("points" | "map")[]} */ (["points", "map"]).map((kind) => {
    const canvas = element("canvas", [], { tabindex: 0, role: "img" });
    const panel = new Panel(canvas, kind, model);
    panels.push(panel);
    listen(panel);
    canvas.addEventListener("keydown", (event) => keyed(panel, event));
    return element("figure", canvas, { class: kind });
  })));
}
