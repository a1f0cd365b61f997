import { execFile } from "node:child_process";
import { join } from "node:path";
import { nodePath, ROOT, WRANGLER, WRANGLER_ENV } from "./project.mjs";

/**
 * Builds the Worker as it would be deployed, minified, without an account.
 * @param {string} folder
 * @returns {Promise<string>} the path of the bundle
 */
export function buildApp(folder) {
  const args = [WRANGLER, "deploy", "--dry-run", "--outdir", folder];
  const options = { cwd: ROOT, env: { ...process.env, ...WRANGLER_ENV } };
  return new Promise((resolve, reject) => {
    execFile(nodePath(), args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`The Worker does not build:\n${stdout}${stderr}`));
      else resolve(join(folder, "worker.js"));
    });
  });
}
