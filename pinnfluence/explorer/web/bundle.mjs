// All modules of src/ in one script, ../static/explorer.js, whose first line is the hash of what it
// was made of: a test without npm compares it. `--check` compares the script itself.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url)), target = join(here, "..", "static", "explorer.js");

const modules = readdirSync(join(here, "src")).filter((name) => name.endsWith(".js")).sort().map((name) => `src/${name}`);
const hash = createHash("sha256");
for (const name of ["bundle.mjs", "package-lock.json", ...modules]) {
  hash.update(`${name}\n${readFileSync(join(here, name), "utf8")}`);
}

const { outputFiles: [{ text }] } = await build({
  entryPoints: [join(here, "src/main.js")],
  absWorkingDir: here,
  bundle: true,
  write: false,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  minify: true,
  legalComments: "none",
});
const notice = "// With d3-array, d3-delaunay and delaunator, " +
  "copyright Mike Bostock, Observable and Mapbox (ISC licence), and robust-predicates (public domain).";
const made = `// sources ${hash.digest("hex")}\n${notice}\n${text}`;
if (made.includes("</script")) throw new Error("the script would end the page's element");

if (!process.argv.includes("--check")) writeFileSync(target, made);
else if (readFileSync(target, "utf8") !== made) {
  console.error(`${target} is not the bundle of these sources: run make explorer-bundle`);
  process.exit(1);
}
