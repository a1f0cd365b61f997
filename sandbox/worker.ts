import { Hono } from "hono";
import { control } from "./control-routes";
import { readConfig, type SandboxEnv } from "./env";
import { respond } from "./http";
import { GraphError } from "./meta/graph-error";
import { downloadMedia, graph, withoutVersion } from "./meta/routes";

import { isSignInPath, signIn } from "./sign-in";

export { SandboxState } from "./state/sandbox-state";

/** The sandbox is for one machine: in development it answers to loopback names only, whatever deployed it. */
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
const CONTROL_HOST = "sandbox.test";
const GRAPH_HOSTS = new Set(["graph.facebook.com", "api.facebook.com"]);
const SIGN_IN_HOSTS = new Set(["github.com", "api.github.com", "www.googleapis.com"]);
const DOWNLOAD_HOST = "lookaside.fbsbx.com";

const controlApp = new Hono<{ Bindings: SandboxEnv }>().route("/sandbox", control);
const downloads = new Hono<{ Bindings: SandboxEnv }>().get("/whatsapp_business/attachments/", downloadMedia);
downloads.onError((error) => {
  throw error;
});

export default {
  async fetch(request, env, ctx) {
    // Every body is read to its end, whatever happens then: an unread one leaves the caller's socket half open.
    const body = request.body === null ? null : await request.arrayBuffer();
    const config = readConfig(env);
    if (!config) return new Response("The sandbox runs in development and tests only.", { status: 503 });
    const url = new URL(request.url);
    const buffered = new Request(request, { body });
    switch (surfaceOf(url, config.MODE)) {
      case "control":
        return controlApp.fetch(buffered, env, ctx);
      case "sign-in":
        return signIn.fetch(buffered, env, ctx);
      case "download":
        return downloads.fetch(buffered, env, ctx);
      case "graph": {
        const call = withoutVersion(buffered);
        return call instanceof GraphError ? respond(call.answer(), config.MODE) : graph.fetch(call, env, ctx);
      }
      case "nowhere":
        throw new Error(`No such host: ${url.hostname}`);
      case "foreign":
        return new Response("The sandbox answers on this machine only.", { status: 403 });
    }
  },
} satisfies ExportedHandler<SandboxEnv>;

/** In tests the host decides, because every outbound call of the app arrives here; in development the path does. */
function surfaceOf(
  url: URL,
  mode: "dev" | "test",
): "control" | "sign-in" | "download" | "graph" | "nowhere" | "foreign" {
  if (mode === "test") {
    if (url.hostname === CONTROL_HOST) return "control";
    if (url.hostname === DOWNLOAD_HOST) return "download";
    if (SIGN_IN_HOSTS.has(url.hostname)) return "sign-in";
    return GRAPH_HOSTS.has(url.hostname) ? "graph" : "nowhere";
  }
  if (!LOOPBACK.has(url.hostname)) return "foreign";
  if (url.pathname.startsWith("/sandbox/")) return "control";
  if (isSignInPath(url.pathname)) return "sign-in";
  return url.pathname.startsWith("/whatsapp_business/") ? "download" : "graph";
}
