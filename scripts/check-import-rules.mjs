// Proves that biome.imports.json refuses what the layout forbids and nothing else: each rule is broken once on purpose.
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { ROOT } from "./support/project.mjs";

/** @type {Record<string, { allowed: string[], refused: string[] }>} */
const RULES = {
  "src/worker.ts": {
    allowed: ["./api", "./consumer", "./cron", "../durable-objects/api-quota"],
    refused: ["./platform/d1", "./contacts/service", "../sandbox/worker"],
  },
  "src/api.ts": {
    allowed: ["./contacts/routes", "./surfaces/simple", "./platform/app"],
    refused: ["./contacts/store", "./contacts/service", "./providers/meta", "./worker", "drizzle-orm"],
  },
  "src/consumer.ts": {
    allowed: ["./messages/jobs", "./messages/jobs-sweep", "./messages/service", "./platform/log"],
    refused: ["./messages/store", "./messages/tables", "./messages/routes", "./worker"],
  },
  "src/cron.ts": {
    allowed: ["./messages/jobs"],
    refused: ["./messages/store-sending", "../durable-objects/gate"],
  },
  "src/contacts/routes.ts": {
    allowed: ["./store", "./service", "../messages/service", "../auth/guard", "../platform/app", "hono"],
    refused: ["../messages/store", "../messages/routes", "../messages/tables", "../providers/meta", "drizzle-orm"],
  },
  "src/contacts/jobs.ts": {
    allowed: ["./service", "../messages/service", "../platform/runtime"],
    refused: ["./store", "./store-merge", "./routes", "../messages/jobs", "../providers/meta"],
  },
  "src/contacts/service.ts": {
    allowed: ["./store", "../messages/schema", "../providers/provider", "../realtime/publish", "../workspaces/quota"],
    refused: [
      "./routes",
      "../messages/store",
      "../messages/tables",
      "../auth/tokens",
      "../../sandbox/env",
      "drizzle-orm",
    ],
  },
  "src/contacts/identity.ts": {
    allowed: ["./store", "../messages/service-threads"],
    refused: ["../messages/store-sending", "../messages/jobs", "./routes"],
  },
  "src/contacts/store.ts": {
    allowed: ["./tables", "../messages/tables", "../messages/schema", "../platform/d1", "drizzle-orm"],
    refused: ["./service", "./routes", "./jobs", "../messages/store", "../messages/service", "../realtime/publish"],
  },
  "src/contacts/tables.ts": {
    allowed: ["../messages/tables", "../workspaces/shard-tables", "./schema", "drizzle-orm/sqlite-core"],
    refused: ["./store", "../messages/store", "../platform/d1"],
  },
  "src/contacts/schema.ts": {
    allowed: ["../messages/schema", "../platform/pagination", "zod"],
    refused: ["./tables", "./store", "../messages/tables", "drizzle-orm"],
  },
  "src/surfaces/simple.ts": {
    allowed: ["../messages/service", "../auth/guard", "../platform/app"],
    refused: ["../messages/store", "../providers/meta", "drizzle-orm", "./store"],
  },
  "src/platform/d1.ts": {
    allowed: ["./errors", "drizzle-orm"],
    refused: ["../messages/service", "../auth/access", "../providers/provider"],
  },
  "src/providers/meta.ts": {
    allowed: ["./provider", "../platform/log"],
    refused: ["../messages/service", "../messages/schema", "../phone-numbers/store"],
  },
  "src/realtime/publish.ts": {
    allowed: ["./events", "../platform/runtime", "../auth/access", "../../durable-objects/workspace-hub"],
    refused: ["../messages/store", "../conversations/tables", "./routes"],
  },
  "src/realtime/routes.ts": {
    allowed: ["./service", "../auth/guard"],
    refused: ["../messages/store", "../providers/meta"],
  },
  "durable-objects/gate.ts": {
    allowed: ["../src/realtime/events", "../src/platform/clock", "./pair-rate"],
    refused: ["../src/messages/service", "../src/realtime/service", "../src/realtime/store", "../sandbox/env"],
  },
  "sandbox/meta/messages.ts": {
    allowed: ["../env", "./tokens", "zod"],
    refused: ["../../src/providers/meta", "../../durable-objects/gate"],
  },
  "scripts/dev.mjs": {
    allowed: ["./support/project.mjs"],
    refused: ["../src/platform/config", "../sandbox/env"],
  },
};

/** @param {string} folder @returns {Promise<string>} Biome's report; it exits 1 because it found what it should */
function lint(folder) {
  const biome = join(ROOT, "node_modules/.bin/biome");
  const args = ["lint", "--only=style/noRestrictedImports", "--reporter=json", "--max-diagnostics=1000", "."];
  return new Promise((resolve, reject) => {
    execFile(biome, args, { cwd: folder, maxBuffer: 1 << 26 }, (error, stdout) => {
      if (error && error.code !== 1) reject(error);
      else resolve(stdout);
    });
  });
}

/** @returns {Promise<string[]>} what the rules get wrong; empty when they hold */
export async function checkImportRules() {
  const folder = mkdtempSync(join(tmpdir(), "switchboard-imports-"));
  try {
    for (const name of ["biome.json", "biome.imports.json"]) cpSync(join(ROOT, name), join(folder, name));
    for (const [file, { allowed, refused }] of Object.entries(RULES)) {
      const lines = [...allowed, ...refused].map((specifier) => `import "${specifier}";`);
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), `${lines.join("\n")}\n`);
    }
    /** @type {{ diagnostics: { location: { path: string, start: { line: number } } }[] }} */
    const report = JSON.parse(await lint(folder));
    const found = new Set(report.diagnostics.map(({ location }) => `${location.path}:${location.start.line}`));
    return Object.entries(RULES).flatMap(([file, { allowed, refused }]) => [
      ...allowed
        .filter((_, index) => found.has(`${file}:${index + 1}`))
        .map((specifier) => `${file} may import ${specifier}, and is refused`),
      ...refused
        .filter((_, index) => !found.has(`${file}:${allowed.length + index + 1}`))
        .map((specifier) => `${file} must not import ${specifier}, and may`),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const wrong = await checkImportRules();
  for (const line of wrong) console.error(line);
  process.exitCode = wrong.length === 0 ? 0 : 1;
}
