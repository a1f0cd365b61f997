import { type Context, Hono } from "hono";
import { z } from "zod";
import { answer } from "./answer";
import { readConfig, type SandboxEnv } from "./env";
import { perform, respond } from "./http";
import { describeFile, type StoredFile } from "./meta/media";
import { decodeBase64, isFileType, sampleFile } from "./meta/sample-files";
import { numericId } from "./random";
import type { ControlCommand } from "./state/commands";

type ControlContext = Context<{ Bindings: SandboxEnv }>;

type OmitEach<T> = T extends unknown ? Omit<T, "surface"> : never;

/** The sandbox's own API: what a test, the demo or the customer phone orders. Not part of any provider. */
export const control = new Hono<{ Bindings: SandboxEnv }>();

control.post("/customers/:phone/messages", (c) => customerWrites(c, c.req.param("phone")));
control.get("/messages", (c) => {
  const { phone_number_id, to, type, callback, since, limit } = c.req.query();
  const filter = { phone_number_id, to, type, callback, since: toNumber(since), limit: toNumber(limit) };
  return run(c, { kind: "messages.list", filter });
});
control.post("/messages/:id/status", async (c) =>
  run(c, { kind: "messages.status", id: c.req.param("id"), body: await bodyOf(c) }),
);
control.get("/reads", (c) => run(c, { kind: "reads.list" }));
control.get("/faults", (c) => run(c, { kind: "faults.list" }));
control.post("/faults", async (c) => run(c, { kind: "faults.add", body: await bodyOf(c) }));
control.delete("/faults", (c) => run(c, { kind: "faults.clear" }));
control.get("/settings", (c) => run(c, { kind: "settings.get" }));
control.post("/settings", async (c) => run(c, { kind: "settings.patch", body: await bodyOf(c) }));
control.post("/numbers/:id", async (c) =>
  run(c, { kind: "numbers.patch", phoneId: c.req.param("id"), body: await bodyOf(c) }),
);
control.get("/templates", (c) => run(c, { kind: "templates.list" }));
control.post("/templates/:id/review", async (c) =>
  run(c, { kind: "templates.review", id: c.req.param("id"), body: await bodyOf(c) }),
);
control.get("/webhooks", (c) => {
  const state = c.req.query("state");
  return run(c, {
    kind: "webhooks.list",
    state: state === "open" || state === "settled" ? state : null,
    limit: toNumber(c.req.query("limit")) ?? 100,
  });
});
control.post("/webhooks/send", async (c) => run(c, { kind: "webhooks.send", body: await bodyOf(c) }));
control.post("/webhooks/redeliver", async (c) => run(c, { kind: "webhooks.redeliver", body: await bodyOf(c) }));
control.post("/flush", async (c) => run(c, { kind: "flush", body: await bodyOf(c) }));
control.get("/stats", (c) => run(c, { kind: "stats" }));
control.post("/reset", (c) => run(c, { kind: "reset" }));

control.notFound((c) => c.json({ error: "The sandbox has no such operation" }, 404));

async function run(c: ControlContext, command: OmitEach<ControlCommand>): Promise<Response> {
  const mode = readConfig(c.env)?.MODE ?? "dev";
  return respond(await perform(c.env, { surface: "control", ...command }), mode);
}

/** An empty body is an empty order. */
async function bodyOf(c: ControlContext): Promise<string> {
  return (await c.req.text()) || "{}";
}

const fileMember = z.object({
  id: z.string().optional(),
  /** Base64. */
  data: z.base64().optional(),
  mime_type: z.string().optional(),
  filename: z.string().optional(),
});

/** A message of a customer; a media type without an `id` gets a file: the bytes given, or a small sample. */
async function customerWrites(c: ControlContext, phone: string): Promise<Response> {
  const message = await bodyOf(c);
  let file: StoredFile | null;
  try {
    file = await storeFile(c, message);
  } catch (error) {
    return c.json(answer({ error: String(error) }), 400);
  }
  return run(c, { kind: "customer.write", phone: phone.replaceAll(/\D/g, ""), message, file });
}

async function storeFile(c: ControlContext, message: string): Promise<StoredFile | null> {
  const parsed = z.looseObject({ type: z.string().default("text") }).parse(JSON.parse(message));
  if (!isFileType(parsed.type)) return null;
  const given = fileMember.parse(parsed[parsed.type] ?? {});
  if (given.id !== undefined) return null;
  const sample = sampleFile(parsed.type);
  const bytes = given.data === undefined ? sample.bytes : decodeBase64(given.data);
  const mimeType = given.mime_type ?? sample.mimeType;
  const stored = await describeFile(numericId(16), bytes.buffer, mimeType, given.filename ?? sample.filename);
  await c.env.MEDIA.put(stored.id, bytes, { httpMetadata: { contentType: mimeType } });
  return stored;
}

function toNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}
