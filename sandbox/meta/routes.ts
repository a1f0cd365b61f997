import { type Context, Hono } from "hono";
import { answer } from "../answer";
import { readConfig, type SandboxEnv } from "../env";
import { perform, respond } from "../http";
import { numericId } from "../random";
import type { GraphCommand } from "../state/commands";
import { GraphError, unknownPath } from "./graph-error";
import { describeFile } from "./media";
import { checkUpload } from "./media-rules";
import { bearerToken, checkToken } from "./tokens";

type GraphContext = Context<{ Bindings: SandboxEnv }>;

type OmitEach<T> = T extends unknown ? Omit<T, "surface" | "token"> : never;

/** The newest version seen in Meta's documents; a later one is an unknown path. */
const NEWEST_VERSION = 26;

const versionPattern = /^\/v(\d+)\.\d+(?=\/)/;

/** Graph API of `graph.facebook.com`, below the version. Every route makes one call to the state object. */
export const graph = new Hono<{ Bindings: SandboxEnv }>();

graph.get("/oauth/access_token", async (c) => run(c, { kind: "oauth", params: await readParams(c) }));
graph.post("/oauth/access_token", async (c) => run(c, { kind: "oauth", params: await readParams(c) }));
graph.get("/debug_token", (c) => run(c, { kind: "debug_token", inputToken: c.req.query("input_token") ?? null }));

graph.post("/:id/messages", async (c) =>
  run(c, { kind: "message.post", phoneId: c.req.param("id"), params: await readParams(c) }),
);
graph.post("/:id/media", (c) => uploadMedia(c, c.req.param("id")));
graph.post("/:id/register", async (c) =>
  run(c, { kind: "number.register", phoneId: c.req.param("id"), params: await readParams(c) }),
);
graph.post("/:id/deregister", (c) => run(c, { kind: "number.deregister", phoneId: c.req.param("id") }));
graph.get("/:id/whatsapp_business_profile", (c) =>
  run(c, { kind: "profile.get", phoneId: c.req.param("id"), fields: c.req.query("fields") ?? null }),
);
graph.post("/:id/whatsapp_business_profile", async (c) =>
  run(c, { kind: "profile.post", phoneId: c.req.param("id"), params: await readParams(c) }),
);

graph.get("/:id/phone_numbers", (c) =>
  run(c, { kind: "account.numbers", wabaId: c.req.param("id"), fields: c.req.query("fields") ?? null }),
);
graph.get("/:id/message_templates", async (c) =>
  run(c, { kind: "templates.get", wabaId: c.req.param("id"), params: await readParams(c) }),
);
graph.post("/:id/message_templates", async (c) =>
  run(c, { kind: "templates.post", wabaId: c.req.param("id"), params: await readParams(c) }),
);
graph.delete("/:id/message_templates", async (c) =>
  run(c, { kind: "templates.delete", wabaId: c.req.param("id"), params: await readParams(c) }),
);
graph.get("/:id/subscribed_apps", (c) => run(c, { kind: "subscribed.get", wabaId: c.req.param("id") }));
graph.post("/:id/subscribed_apps", async (c) =>
  run(c, { kind: "subscribed.post", wabaId: c.req.param("id"), params: await readParams(c) }),
);
graph.delete("/:id/subscribed_apps", (c) => run(c, { kind: "subscribed.delete", wabaId: c.req.param("id") }));
graph.get("/:id/subscriptions", (c) => run(c, { kind: "subscriptions.get" }));
graph.post("/:id/subscriptions", async (c) => run(c, { kind: "subscriptions.post", params: await readParams(c) }));
graph.delete("/:id/subscriptions", (c) => run(c, { kind: "subscriptions.delete" }));

graph.post("/:id/webhook_configuration", async (c) =>
  run(c, { kind: "webhook.configure", phoneId: c.req.param("id"), params: await readParams(c) }),
);
graph.get("/:id", (c) =>
  run(c, { kind: "node.get", id: c.req.param("id"), fields: c.req.query("fields") ?? null, origin: mediaOrigin(c) }),
);
graph.post("/:id", async (c) => run(c, { kind: "node.post", id: c.req.param("id"), params: await readParams(c) }));
graph.delete("/:id", (c) => run(c, { kind: "node.delete", id: c.req.param("id") }));

// A broken connection is an error that must reach the caller's fetch: Hono would make a 500 of it.
graph.onError((error) => {
  throw error;
});
graph.notFound((c) => respond(unknownPath(new URL(c.req.url).pathname).answer(), modeOf(c)));

/** The request below its version, or the answer to a version that does not exist. */
export function withoutVersion(request: Request): Request | GraphError {
  const url = new URL(request.url);
  const version = versionPattern.exec(url.pathname);
  if (version && Number(version[1]) > NEWEST_VERSION) return unknownPath(url.pathname);
  url.pathname = url.pathname.replace(versionPattern, "");
  return new Request(url, request);
}

/** `GET /whatsapp_business/attachments/`: the bytes behind a media address; the token is needed here too. */
export async function downloadMedia(c: GraphContext): Promise<Response> {
  const { mid = "", ext = "", hash = "" } = c.req.query();
  const token = c.req.header("D360-API-KEY") ?? bearerToken(c.req.header("Authorization"), undefined);
  if (token === null) return respond(answer({ error: "Authentication required" }, 401), modeOf(c));
  const given = await perform(c.env, {
    surface: "graph",
    token,
    kind: "media.open",
    id: mid,
    expires: ext,
    mark: hash,
  });
  if (given.status !== 200 || given.fault) return respond(given, modeOf(c));
  const bytes = await c.env.MEDIA.get(mid);
  if (!bytes) return respond(answer({ error: "Media not found" }, 404), modeOf(c));
  return new Response(bytes.body, {
    headers: {
      "Content-Type": bytes.httpMetadata?.contentType ?? "application/octet-stream",
      "Content-Length": String(bytes.size),
    },
  });
}

async function run(c: GraphContext, command: OmitEach<GraphCommand>): Promise<Response> {
  const token = bearerToken(c.req.header("Authorization"), c.req.query("access_token"));
  return respond(await perform(c.env, { surface: "graph", token, ...command }), modeOf(c));
}

async function uploadMedia(c: GraphContext, phoneId: string): Promise<Response> {
  try {
    checkToken(bearerToken(c.req.header("Authorization"), c.req.query("access_token")));
    const form = await readForm(c);
    if (form.get("messaging_product") !== "whatsapp") {
      throw new GraphError(100, { message: "(#100) The parameter messaging_product is required." });
    }
    const file = form.get("file");
    if (file === null || typeof file === "string")
      throw new GraphError(100, { message: "(#100) The parameter file is required." });
    const declared = form.get("type");
    const mime = file.type || (typeof declared === "string" ? declared : "application/octet-stream");
    checkUpload(mime, file.size);
    const bytes = await file.arrayBuffer();
    const stored = await describeFile(numericId(16), bytes, mime, file.name || null);
    await c.env.MEDIA.put(stored.id, bytes, { httpMetadata: { contentType: mime } });
    return run(c, { kind: "media.create", phoneId, file: stored });
  } catch (error) {
    if (error instanceof GraphError) return respond(error.answer(), modeOf(c));
    throw error;
  }
}

async function readForm(c: GraphContext): Promise<FormData> {
  try {
    return await c.req.formData();
  } catch {
    throw new GraphError(100, { message: "(#100) The parameter file is required." });
  }
}

/** Query and body as one set, as the Graph API reads them. A body it cannot read counts as empty. */
async function readParams(c: GraphContext): Promise<string> {
  const { access_token: _token, ...query } = c.req.query();
  const type = c.req.header("Content-Type") ?? "";
  const text = await c.req.text();
  let body: unknown = {};
  if (type.includes("application/x-www-form-urlencoded")) {
    body = Object.fromEntries(new URLSearchParams(text));
  } else if (text !== "") {
    try {
      body = JSON.parse(text);
    } catch {
      body = {};
    }
  }
  return JSON.stringify(
    typeof body === "object" && body !== null && !Array.isArray(body) ? { ...query, ...body } : query,
  );
}

/** Where a media address points: Meta's download host in tests, the sandbox itself in development. */
function mediaOrigin(c: GraphContext): string {
  const { hostname, origin } = new URL(c.req.url);
  return hostname === "graph.facebook.com" ? "https://lookaside.fbsbx.com" : origin;
}

function modeOf(c: GraphContext): "dev" | "test" {
  return readConfig(c.env)?.MODE ?? "dev";
}
