// Runs a command as the leader of a process group that ends with its owner: `node guard.mjs command args…`, started
// detached with an IPC channel. Wrangler's workerd survives a killed wrapper, so the whole group is ended, and the
// channel closes however the owner ends, even by SIGKILL.
import { spawn } from "node:child_process";

const GRACE_MS = 3_000;
const [command, ...args] = process.argv.slice(2);
if (!command || !process.connected) throw new Error("guard.mjs is started by scripts/support/processes.mjs");

const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });

/** Ends everything in the group, this process too. */
function endGroup() {
  process.kill(-process.pid, "SIGKILL");
}

let stopping = false;
function stop() {
  if (stopping) return;
  stopping = true;
  child.kill("SIGTERM");
  setTimeout(endGroup, GRACE_MS);
}

process.on("disconnect", stop);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stop);

child.once("error", (error) => {
  console.error(error.message);
  endGroup();
});
child.once("exit", (code, signal) => {
  if (!process.connected) endGroup();
  else process.send?.({ code, signal }, endGroup);
});
