// `npm run search -- drop|rebuild [--binding SHARD_0] [--remote]`: takes the full-text index of contacts out of a shard
// and makes it anew from the contacts. `wrangler d1 export` refuses a database with such an index, and a restored one
// comes without it. Searching contacts fails in between; everything else goes on.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { nodePath, ROOT, stateDir, WRANGLER, WRANGLER_ENV } from "./support/project.mjs";

/** Contacts indexed by one statement: far below the 30 seconds one may take. */
const CHUNK = 20_000;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { binding: { type: "string", default: "SHARD_0" }, remote: { type: "boolean", default: false } },
});

/** What the migrations say of the index, in their order: the last word on each table, trigger and filling counts. */
function statements() {
  const folder = join(ROOT, "migrations/shard");
  const all = readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("--> statement-breakpoint"))
    .map((sql) => sql.replace(/^(\s*--.*\n)+/, "").trim());
  const table = all.findLast((sql) => /^CREATE VIRTUAL TABLE contacts_fts\b/.test(sql));
  const fill = all.findLast((sql) => /^INSERT INTO contacts_fts\b/.test(sql));
  const triggers = new Map(
    all.flatMap((sql) => {
      const name = /^CREATE TRIGGER (contacts_fts\w*)/.exec(sql)?.[1];
      return name === undefined ? [] : [[name, sql]];
    }),
  );
  if (table === undefined || fill === undefined) throw new Error("The migrations make no index of contacts");
  return { table, fill: fill.replace(/;$/, ""), triggers };
}

/** @param {string} sql @returns {Record<string, unknown>[]} rows of the last statement */
function execute(sql) {
  const folder = mkdtempSync(join(tmpdir(), "search-index-"));
  try {
    const file = join(folder, "statements.sql");
    writeFileSync(file, sql);
    const where = values.remote ? ["--remote"] : ["--local", "--persist-to", stateDir()];
    const what = /^SELECT/.test(sql) ? ["--command", sql] : ["--file", file];
    const args = [WRANGLER, "d1", "execute", values.binding, ...where, ...what, "--json", "--yes"];
    const done = spawnSync(nodePath(), args, { cwd: ROOT, env: { ...process.env, ...WRANGLER_ENV }, encoding: "utf8" });
    if (done.status !== 0) throw new Error(`wrangler d1 execute failed:\n${done.stdout}${done.stderr}`);
    return JSON.parse(done.stdout.slice(done.stdout.indexOf("["))).at(-1)?.results ?? [];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const { table, fill, triggers } = statements();
const drop = [
  ...[...triggers.keys()].map((name) => `DROP TRIGGER IF EXISTS ${name};`),
  "DROP TABLE IF EXISTS contacts_fts;",
].join("\n");

switch (positionals[0]) {
  case "drop":
    execute(drop);
    console.log(`The index of contacts is gone from ${values.binding}. Bring it back with: npm run search -- rebuild`);
    break;
  case "rebuild": {
    // The triggers come first: contacts that change meanwhile are indexed by them, and once more below.
    execute([drop, table, ...triggers.values()].map((sql) => `${sql.replace(/;$/, "")};`).join("\n"));
    const last = Number(execute("SELECT COALESCE(MAX(row_id), 0) AS last FROM contacts")[0]?.last);
    for (let from = 0; from < last; from += CHUNK) {
      const range = `> ${from} AND %s <= ${from + CHUNK}`;
      execute(
        `DELETE FROM contacts_fts WHERE rowid ${range.replace("%s", "rowid")};
         ${fill} AND c.row_id ${range.replace("%s", "c.row_id")};`,
      );
      console.log(`${Math.min(last, from + CHUNK)} of ${last} contacts`);
    }
    console.log(`The index of contacts of ${values.binding} is complete.`);
    break;
  }
  default:
    console.error("Usage: npm run search -- drop|rebuild [--binding SHARD_0] [--remote]");
    process.exit(1);
}
