import { statSync } from "node:fs";
import { percentile } from "../support/load.mjs";
import { startBare, startReceiver } from "../support/stack.mjs";

const STARTS = 9;

/**
 * The bundle's size, and how much longer the app takes than the bare Worker from the start of the runtime to its first
 * answer. Both start the same runtime with the same queue beside them, so what is left is parsing and running the
 * bundle's module scope and the first request's own work.
 * @param {import("../support/stack.mjs").Bundles} bundles
 */
export async function measureStartup(bundles) {
  /** @type {{ bare: number, app: number }[]} */
  const starts = [];
  for (let n = 0; n < STARTS; n += 1) {
    starts.push({ bare: await firstAnswer(() => startBare(bundles)), app: await firstAnswer(() => startReceiver(bundles)) });
  }
  const extra = starts.map(({ app, bare }) => app - bare);
  return {
    bundle_bytes: statSync(bundles.app).size,
    startup_ms: percentile(extra, 0.5),
    startups_ms: extra.map((ms) => Math.round(ms)),
    bare_ms: percentile(starts.map(({ bare }) => bare), 0.5),
  };
}

/** @param {() => Promise<import("../support/stack.mjs").Running>} start */
async function firstAnswer(start) {
  const started = performance.now();
  const running = await start();
  try {
    await fetch(`http://127.0.0.1:${running.port}/nothing-here`);
    return performance.now() - started;
  } finally {
    await running.stop();
  }
}
