import { onFreshConnection } from "../support/load.mjs";
import { peakMemory } from "../support/memory.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const MIB = 1024 * 1024;
const SIZE = 100 * MIB;

/** A PDF by its first bytes; the rest is nothing that compresses to nothing. */
function* pdf() {
  const chunk = Buffer.alloc(MIB, "%PDF-1.7 0123456789 abcdefghijklmnopqrstuvwxyz\n");
  for (let sent = 0; sent < SIZE; sent += MIB) yield chunk;
}

/**
 * One file of 100 MB up as a form, and down again by its signed address: how fast, and how much memory the runtime
 * needed for it.
 * @param {Running} app @param {Tenant} tenant @param {number} pid of the runtime
 */
export async function measureFiles(app, tenant, pid) {
  const origin = `http://127.0.0.1:${app.port}`;
  const headers = { Authorization: `Bearer ${tenant.apiKey}` };
  const boundary = "----bench-file";
  const part = (/** @type {string} */ name, /** @type {string} */ more) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
  async function* form() {
    yield Buffer.from(`${part("workspace_id", "")}${tenant.workspaceId}\r\n`);
    yield Buffer.from(part("file", '; filename="large.pdf"\r\nContent-Type: application/pdf'));
    yield* pdf();
    yield Buffer.from(`\r\n--${boundary}--\r\n`);
  }
  const upStarted = performance.now();
  const up = await peakMemory(pid, async () => {
    const response = await onFreshConnection(() =>
      fetch(`${origin}/api/media`, {
        method: "POST",
        headers: { ...headers, "Content-Type": `multipart/form-data; boundary=${boundary}` },
        body: form(),
        duplex: "half",
      }),
    );
    const text = await response.text();
    if (response.status !== 201) throw new Error(`The upload answered ${response.status}: ${text.slice(0, 300)}`);
    return JSON.parse(text);
  });
  const upSeconds = (performance.now() - upStarted) / 1000;
  const downStarted = performance.now();
  const down = await peakMemory(pid, async () => {
    const response = await fetch(`${origin}/api/media/${up.result.id}/download`, { headers });
    let received = 0;
    for await (const chunk of response.body ?? []) received += chunk.byteLength;
    return received;
  });
  const downSeconds = (performance.now() - downStarted) / 1000;
  if (down.result !== SIZE) throw new Error(`${down.result} of ${SIZE} bytes came back`);
  return {
    mib: SIZE / MIB,
    upload_mib_per_second: SIZE / MIB / upSeconds,
    upload_peak_mib: up.grown,
    download_mib_per_second: SIZE / MIB / downSeconds,
    download_peak_mib: down.grown,
  };
}
