// Files to keep: a picture of what is seen, a table of a row or of a map.

function save(blob, name) {
  const link = element("a", [], { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (model, what, end) =>
  [model?.name, state.quantity, what].filter(Boolean).join("_").replace(/[^\w.-]+/g, "-") + end;

function savePicture() {
  const drawn = panels.filter((panel) => !panel.canvas.closest("[hidden]"));
  const boxes = drawn.map((panel) => panel.canvas.getBoundingClientRect()), ratio = 2, edge = 16;
  const left = Math.min(...boxes.map((b) => b.left)), top = Math.min(...boxes.map((b) => b.top));
  const width = Math.max(...boxes.map((b) => b.right)) - left, height = Math.max(...boxes.map((b) => b.bottom)) - top;
  const canvas = document.createElement("canvas"), c = canvas.getContext("2d"), head = 26, foot = 22;
  canvas.width = (width + 2 * edge) * ratio;
  canvas.height = (height + head + foot + edge) * ratio;
  c.scale(ratio, ratio);
  c.fillStyle = ink.paper;
  c.fillRect(0, 0, canvas.width, canvas.height);
  drawn.forEach((panel, k) => c.drawImage(panel.canvas, boxes[k].left - left + edge,
    boxes[k].top - top + head, boxes[k].width, boxes[k].height));
  const { model, test } = focused(), scale = state.paper ? "N × influence" : "influence on removal";
  const terms = state.terms.length ? state.terms.join(", ") : "none";
  c.fillStyle = ink.ink;
  c.font = `600 14px ${FONT}`;
  c.fillText(`${labelOf(state.quantity)} at ${placed(at(model.mesh.points, test))} (✛) — ${scale}`, edge, 21);
  c.fillStyle = ink.faint;
  c.font = `11px ${FONT}`;
  c.fillText(fitted(c, `loss terms: ${terms}; colours to the ${state.percent}th percentile${state.log ? ", logarithmic" : ""}`, width), edge, height + head + 12);
  return new Promise((done) => canvas.toBlob((blob) => {
    save(blob, fileName(null, "influence", ".png"));
    done(blob);
  }));
}

function heading(look, what) {
  return [`# ${look.model.name}: ${what}`,
    `# scale: ${state.paper ? "paper, n_train times the change on removal" : "removal, the change when the point is removed"}`,
    `# loss terms: ${state.terms.join(" ")}`];
}

// The row: influence of every training point on the quantity at the chosen place.
function rowTable() {
  const look = focused(), { model } = look, terms = state.terms.filter((t) => t in model.terms);
  const parts = terms.map((term) => model.row(state.quantity, [term], look.test, scaleOf(model)));
  const place = at(model.mesh.points, look.test).join(", ");
  const lines = heading(look, `influence of training points on ${state.quantity} at test point ${model.testIndex[look.test]} (${place})`);
  lines.push(["train_index", ...page.description.axes, "influence", ...terms].join());
  for (let j = 0; j < model.nTrain; j++) {
    lines.push([j, ...at(model.points, j), look.row[j], ...parts.map((part) => part[j])].join());
  }
  return lines.join("\n") + "\n";
}

// The map: influence of the chosen training points on the quantity at every test point.
function mapTable() {
  const look = focused(), { model, mesh = model.mesh } = look;
  const who = state.polygon ? `training points ${look.group.join(" ")}` : `training point ${look.point}`;
  const lines = heading(look, `influence of ${who} on ${state.quantity}`);
  lines.push(["test_index", ...page.description.axes, "influence"].join());
  for (let i = 0; i < mesh.n; i++) {
    if (!look.acts || look.acts[i]) lines.push([model.testIndex[i], ...at(mesh.points, i), look.column[i]].join());
  }
  return lines.join("\n") + "\n";
}

const saveTable = (text, what) =>
  save(new Blob([text], { type: "text/csv" }), fileName(focused().model, what, ".csv"));
