// Files to keep: a picture of what is seen, a table of a row or of a map.

function save(blob, name) {
  const link = element("a", [], { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (model, what, end) =>
  [model?.name, state.quantity, what].filter(Boolean).join("_").replace(/[^\w.-]+/g, "-") + end;

// The drawings as they are seen, at twice the resolution, with what they mean.
function savePicture() {
  const drawn = panels.filter((panel) => !panel.canvas.closest("[hidden]"));
  const boxes = drawn.map((panel) => panel.canvas.getBoundingClientRect()), ratio = 2, edge = 16;
  const left = Math.min(...boxes.map((b) => b.left)), top = Math.min(...boxes.map((b) => b.top));
  const width = Math.max(...boxes.map((b) => b.right)) - left, height = Math.max(...boxes.map((b) => b.bottom)) - top;
  const canvas = document.createElement("canvas"), c = canvas.getContext("2d"), head = 26, foot = 38;
  canvas.width = (width + 2 * edge) * ratio;
  canvas.height = (height + head + foot + edge) * ratio;
  c.scale(ratio, ratio);
  c.fillStyle = ink.paper;
  c.fillRect(0, 0, canvas.width, canvas.height);
  page.ratio = ratio; // drawn anew: a screen of fewer pixels would give a blurred file
  drawn.forEach((panel, k) => {
    panel.draw(panel.look);
    c.drawImage(panel.canvas, boxes[k].left - left + edge, boxes[k].top - top + head, boxes[k].width, boxes[k].height);
  });
  page.ratio = null;
  const { model, test } = focused(), scale = state.paper ? "N × influence" : "influence on removal";
  const notes = [...new Set(state.shown.map((i) => page.models[i].note))].join("; ");
  const terms = state.terms.length ? state.terms.join(", ") : "none";
  const lines = [notes, `loss terms: ${terms}; colours to the ${state.percent}th percentile${state.log ? ", logarithmic" : ""}`];
  c.fillStyle = ink.ink;
  c.font = `600 14px ${FONT}`;
  c.fillText(fitted(c, `${labelOf(state.quantity)} at ${placed(coordinatesOf(model.mesh, test))} (✛): ${scale}`, width), edge, 21);
  c.fillStyle = ink.faint;
  c.font = `11px ${FONT}`;
  lines.forEach((line, k) => c.fillText(fitted(c, line, width), edge, height + head + 12 + 16 * k));
  refresh();
  return new Promise((done) => canvas.toBlob((blob) => {
    save(blob, fileName(null, "influence", ".png"));
    done(blob);
  }));
}

function heading(look, what) {
  const units = page.description.axes.map((name) => `${name} in ${unitOf(name) || "units of the file"}`);
  return [`# ${look.model.name}: ${what}`,
    `# ${look.model.note}`,
    `# unit: ${isLoss(state.quantity) ? "that of a squared residual" : unitOf(state.quantity) || "that of the quantity"}; ${units.join(", ")}`,
    `# scale: ${state.paper ? "paper, n_train times the change on removal" : "removal, the change when the point is removed"}`,
    `# loss terms: ${state.terms.join(" ")}`];
}

// The row: influence of every training point on the quantity at the chosen place.
function rowTable() {
  const look = focused(), { model } = look, terms = state.terms.filter((t) => t in model.terms);
  const parts = terms.map((term) => model.row(state.quantity, [term], look.test, scaleOf(model)));
  const place = coordinatesOf(model.mesh, look.test).join(", ");
  const lines = heading(look, `influence of training points on ${state.quantity} at test point ${model.testIndex[look.test]} (${place})`);
  lines.push(["train_index", ...page.description.axes, "influence", ...terms].join());
  for (let j = 0; j < model.nTrain; j++) {
    lines.push([j, ...coordinatesOf(model, j), look.row[j], ...parts.map((part) => part[j])].join());
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
    if (!look.acts || look.acts[i]) lines.push([model.testIndex[i], ...coordinatesOf(mesh, i), look.column[i]].join());
  }
  return lines.join("\n") + "\n";
}

const saveTable = (text, what) =>
  save(new Blob([text], { type: "text/csv" }), fileName(focused().model, what, ".csv"));
