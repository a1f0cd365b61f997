import type { Answer } from "./answer";
import type { SandboxConfig, SandboxEnv } from "./env";
import type { Command } from "./state/commands";

/** The one call to the state object that a request makes. */
export function perform(env: SandboxEnv, command: Command): Promise<Answer> {
  return env.STATE.getByName("sandbox").perform(command);
}

/** Turns an answer into a response, or into the broken connection that a fault ordered. */
export async function respond(given: Answer, mode: SandboxConfig["MODE"]): Promise<Response> {
  const { fault } = given;
  if (fault?.kind === "cut") return brokenConnection(mode);
  if (fault?.kind === "hold") {
    await scheduler.wait(fault.ms);
    return brokenConnection(mode);
  }
  if (fault?.kind === "slow") await scheduler.wait(fault.ms);
  const headers = new Headers({ "Content-Type": "application/json; charset=UTF-8" });
  if (given.retryAfter !== null) headers.set("Retry-After", String(given.retryAfter));
  return new Response(given.status === 204 ? null : given.json, { status: given.status, headers });
}

/**
 * The caller's `fetch` fails as with a lost connection. As outbound service of a test, an error thrown here reaches
 * the caller as a rejected fetch. Over a real socket the server in front would turn it into a 500, so there the answer
 * promises more bytes than it sends: workerd then closes the socket, and fetch (or the read of its body) rejects.
 */
function brokenConnection(mode: SandboxConfig["MODE"]): Response {
  if (mode === "test") throw Object.assign(new Error("Network connection lost."), { retryable: true });
  const { readable, writable } = new FixedLengthStream(1_000);
  writable.close().catch(() => undefined);
  return new Response(readable, { headers: { "Content-Encoding": "identity" } });
}
