import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import { join } from "node:path";
import { ROOT } from "../../scripts/support/project.mjs";
import { ASSUMED } from "./prices.mjs";

/** What a number of this machine can never say of Cloudflare. */
const BLIND_SPOTS = [
  "network time to D1's primary, to objects and to the provider",
  "queue consumers running side by side (1 locally, 4 and 10 configured), and batches that are neither full nor of one",
  "D1 replicas, overload and the throughput of a real primary",
  "CPU and memory limits, cold starts on Cloudflare's machines",
  "the generator, both Workers' simulators and whatever else runs share these cores: compare ratios, not rates",
];

/** @param {string} name */
function versionOf(name) {
  const path = createRequire(import.meta.url).resolve(`${name}/package.json`);
  return JSON.parse(readFileSync(path, "utf8")).version;
}

/** Where and with what the numbers were made. */
export function circumstances() {
  return {
    date: new Date().toISOString(),
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    versions: {
      node: process.versions.node,
      workerd: versionOf("workerd"),
      miniflare: versionOf("miniflare"),
      wrangler: versionOf("wrangler"),
    },
    assumed: ASSUMED,
    not_shown: BLIND_SPOTS,
  };
}

/**
 * @typedef {object} Line
 * @property {string} what
 * @property {string} value
 * @property {string} [budget]
 * @property {boolean} [met]
 */

/** @param {readonly Line[]} lines */
export function printTable(lines) {
  const rows = [
    { what: "what", value: "measured", budget: "budget", verdict: "" },
    ...lines.map(({ what, value, budget = "", met }) => ({
      what,
      value,
      budget,
      verdict: met === undefined ? "" : met ? "met" : "MISSED",
    })),
  ];
  const width = (/** @type {"what" | "value" | "budget"} */ name) => Math.max(...rows.map((row) => row[name].length));
  const [what, value, budget] = [width("what"), width("value"), width("budget")];
  for (const row of rows) {
    const text = `${row.what.padEnd(what)}  ${row.value.padStart(value)}  ${row.budget.padStart(budget)}  ${row.verdict}`;
    console.log(text.trimEnd());
  }
}

const MARKS = /(<!-- bench:start -->\n)[\s\S]*(<!-- bench:end -->)/;

/** Puts the table between the marks of the README, so that it shows what was last measured. @param {readonly Line[]} lines */
export function writeReadme(lines) {
  const path = join(ROOT, "README.md");
  const rows = lines.map(({ what, value, budget = "", met }) => {
    const verdict = met === false ? `**${budget}, missed**` : budget;
    return `| ${what.trim()} | ${value} | ${verdict} |`;
  });
  const table = ["| what | measured | budget |", "|---|---:|---:|", ...rows].join("\n");
  const text = readFileSync(path, "utf8");
  if (!MARKS.test(text)) throw new Error("README.md has lost its bench marks");
  writeFileSync(
    path,
    text.replace(MARKS, (_, start, end) => `${start}\n${table}\n\n${end}`),
  );
}

/** @param {object} results */
export function writeResults(results) {
  writeFileSync(join(ROOT, "bench/results.json"), `${JSON.stringify(results, null, 2)}\n`);
}
