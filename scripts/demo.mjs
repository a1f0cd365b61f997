// `npm run demo`: the main job from end to end, as a user would do it, on a build with a state of its own that is gone
// afterwards. Exits 0, or 1 naming the step that failed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runGuarded } from "./support/processes.mjs";
import { ROOT } from "./support/project.mjs";

/** The whole run takes a few seconds; a machine may be slow, but not endlessly. */
const LIMIT_MS = 180_000;

const folder = mkdtempSync(join(tmpdir(), "switchboard-demo-"));
const program = runGuarded([join(ROOT, "scripts/support/demo-run.mjs"), folder]);

/** @param {number} code */
function leave(code) {
  rmSync(folder, { recursive: true, force: true });
  process.exit(code);
}

/** @param {string} why */
async function giveUp(why) {
  console.error(`\n✘ ${why}`);
  await program.stop();
  leave(1);
}

setTimeout(giveUp, LIMIT_MS, `not finished within ${LIMIT_MS / 1000} seconds`);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => giveUp("stopped"));

const { code, how } = await program.ended;
if (code === null) console.error(`\n✘ the demo ${how}`);
leave(code ?? 1);
