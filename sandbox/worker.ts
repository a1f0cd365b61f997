import { Hono } from "hono";
import { aiControl, chat } from "./ai";
import { control } from "./control-routes";
import { dialog360 } from "./dialog360/routes";
import { readConfig, type SandboxEnv } from "./env";
import { respond } from "./http";
import { infobip } from "./infobip/routes";
import { GraphError } from "./meta/graph-error";
import { downloadMedia, graph, withoutVersion } from "./meta/routes";
import { receive, receiverControl } from "./receiver";
import { wordpress, wordpressControl } from "./wordpress/routes";

export { SandboxState } from "./state/sandbox-state";

/** The sandbox is for one machine: in development it answers to loopback names only, whatever deployed it. */
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
const CONTROL_HOST = "sandbox.test";
const GRAPH_HOSTS = new Set(["graph.facebook.com", "api.facebook.com"]);
const DIALOG360_HOST = "waba-v2.360dialog.io";
const INFOBIP_HOST = /^(?:[a-z0-9-]+\.)?api\.infobip\.com$/;
const DOWNLOAD_HOST = "lookaside.fbsbx.com";

/** `<site>.wp.example.com`; in development `/wordpress/<site>/…`. */
const WORDPRESS_HOST = /^([a-z0-9-]+)\.wp\.example\.com$/;
const WORDPRESS_PATH = /^\/wordpress\/([a-z0-9-]+)(\/.*)$/;
const RECEIVER_HOST = "hooks.example.com";
const AI_HOST = "ai.example.com";

const controlApp = new Hono<{ Bindings: SandboxEnv }>()
  .route("/sandbox/receiver", receiverControl)
  .route("/sandbox/wordpress", wordpressControl)
  .route("/sandbox/ai", aiControl)
  .route("/sandbox", control);
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
      case "download":
        return downloads.fetch(buffered, env, ctx);
      case "graph": {
        const call = withoutVersion(buffered);
        return call instanceof GraphError ? respond(call.answer(), config.MODE) : graph.fetch(call, env, ctx);
      }
      case "receiver":
        return receive(buffered);
      case "wordpress": {
        const site = WORDPRESS_PATH.exec(url.pathname) ?? ["", WORDPRESS_HOST.exec(url.hostname)?.[1], url.pathname];
        return wordpress(buffered, site[1] ?? "", site[2] ?? "/");
      }
      case "ai":
        return chat(buffered);
      case "360dialog":
        return dialog360(buffered, env, config.MODE);
      case "infobip":
        return infobip(buffered, env, config.MODE);
      case "nowhere":
        throw new Error(`No such host: ${url.hostname}`);
      case "foreign":
        return new Response("The sandbox answers on this machine only.", { status: 403 });
    }
  },
} satisfies ExportedHandler<SandboxEnv>;

type Surface =
  | "control"
  | "download"
  | "receiver"
  | "ai"
  | "graph"
  | "360dialog"
  | "infobip"
  | "wordpress"
  | "nowhere"
  | "foreign";

/** In tests the host decides, because every outbound call of the app arrives here; in development the path does. */
function surfaceOf(url: URL, mode: "dev" | "test"): Surface {
  if (mode === "test") {
    if (url.hostname === CONTROL_HOST) return "control";
    if (url.hostname === DOWNLOAD_HOST) return "download";
    if (url.hostname === DIALOG360_HOST) {
      return url.pathname.startsWith("/whatsapp_business/attachments") ? "download" : "360dialog";
    }
    if (INFOBIP_HOST.test(url.hostname)) return "infobip";
    if (url.hostname === RECEIVER_HOST) return "receiver";
    if (url.hostname === AI_HOST) return "ai";
    if (WORDPRESS_HOST.test(url.hostname)) return "wordpress";
    return GRAPH_HOSTS.has(url.hostname) ? "graph" : "nowhere";
  }
  if (!LOOPBACK.has(url.hostname)) return "foreign";
  if (url.pathname.startsWith("/sandbox/")) return "control";
  if (url.pathname.startsWith("/360dialog/")) return "360dialog";
  if (url.pathname.startsWith("/infobip/")) return "infobip";
  if (url.pathname.startsWith("/receiver/")) return "receiver";
  if (url.pathname.startsWith("/ai/")) return "ai";
  if (WORDPRESS_PATH.test(url.pathname)) return "wordpress";
  return url.pathname.startsWith("/whatsapp_business/") ? "download" : "graph";
}
