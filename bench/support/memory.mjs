import { readdirSync, readFileSync, writeFileSync } from "node:fs";

/** The runtimes this process has started, by process id. Linux only: elsewhere there is no /proc to ask. */
export function runtimes() {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const parent = /\) \S (\d+) /.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
        return Number(parent) === process.pid && readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd";
      } catch {
        // It has ended since the list was made.
        return false;
      }
    });
}

/** @param {number} pid @param {string} name a line of /proc/<pid>/status in kB; answers MiB */
function statusOf(pid, name) {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1024;
}

/**
 * Runs something and answers by how much the process's resident memory grew at its highest, in MiB. The process holds
 * the Worker and the simulators of its database, bucket and queues alike.
 * @template T
 * @param {number} pid @param {() => Promise<T>} run
 */
export async function peakMemory(pid, run) {
  // Sets the highest mark back to what is held now.
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
  const before = statusOf(pid, "VmRSS");
  const result = await run();
  return { result, before, grown: Math.max(0, statusOf(pid, "VmHWM") - before) };
}
