import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");

/** Options under which the sandbox Worker runs: the tests and the bench hand them to Miniflare. */
export const SANDBOX_WORKER = {
  compatibilityDate: "2026-09-25",
  durableObjects: { STATE: { className: "SandboxState", useSQLite: true } },
  r2Buckets: { MEDIA: "sandbox-media" },
};

/** @param {string} [outfile] without it, the code is only answered */
async function bundle(outfile) {
  const result = await build({
    entryPoints: [path.join(root, "sandbox/worker.ts")],
    bundle: true,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "import"],
    external: ["cloudflare:*", "node:*"],
    sourcemap: outfile === undefined ? "inline" : false,
    minify: outfile !== undefined,
    logLevel: "warning",
    ...(outfile === undefined ? { write: false } : { outfile }),
  });
  return result.outputFiles?.[0]?.text ?? "";
}

/** The sandbox as one JavaScript module, in memory: test runs at the same time must not share a file. */
export function sandboxModule() {
  return bundle();
}

/**
 * Writes the bundled, minified sandbox Worker to `outfile`.
 * @param {string} outfile
 */
export async function buildSandbox(outfile) {
  await bundle(outfile);
  return outfile;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(await buildSandbox(path.resolve(process.argv[2] ?? path.join(root, "dist/sandbox.js"))));
}
