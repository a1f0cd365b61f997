import { type RouteConfig, z } from "@hono/zod-openapi";
import { operation } from "../auth/operation";
import { webhookSecrets } from "../phone-numbers/service-pipeline";
import { verifyWebhookSecret, WEBHOOK_SECRET_HEADER } from "../phone-numbers/service-webhook";
import { type AppContext, createRouter, deliveryFrame, withRuntime } from "../platform/app";
import { AppError } from "../platform/errors";
import { isUuid, uuidSchema } from "../platform/ids";
import {
  answerChallenge,
  appSecrets,
  basicCredentials,
  enqueueWebhook,
  holdsResults,
  isSigned,
  MAX_WEBHOOK_BYTES,
  readBounded,
} from "./receive";

const challengeQuery = z.object({
  "hub.mode": z.string().optional(),
  "hub.verify_token": z.string().optional(),
  "hub.challenge": z.string().optional(),
});
const connectionPath = z.object({ phone_id: uuidSchema });

const verified = { 200: { description: "The challenge", content: { "text/plain": { schema: z.string() } } } };
const received = {
  200: {
    description: "Queued",
    content: { "application/json": { schema: z.object({ status: z.literal("received") }) } },
  },
};
/** Documented, not parsed: `isSigned` looks at the header itself. */
const signatureHeader: RouteConfig["parameters"] = [
  {
    name: "X-Hub-Signature-256",
    in: "header",
    required: true,
    description: "`sha256=` and the HMAC of the raw body with the app's secret.",
    schema: { type: "string" },
  },
];

const verifyRoute = operation({ kind: "signed", by: "provider" }, ["forbidden"], {
  method: "get",
  path: "/webhook",
  tags: ["Webhooks"],
  summary: "Meta's verification of the callback address",
  request: { query: challengeQuery },
  responses: verified,
});

const receiveRoute = operation({ kind: "signed", by: "provider" }, ["too_large"], {
  method: "post",
  path: "/webhook",
  tags: ["Webhooks"],
  summary: "Meta's events for the app",
  description:
    "Infobip's `results` are taken here as well: instead of the signature, basic authentication with the connection's id and secret.",
  parameters: signatureHeader,
  responses: received,
});

const verifyConnectionRoute = operation({ kind: "signed", by: "provider" }, ["forbidden"], {
  method: "get",
  path: "/webhooks/meta/{phone_id}",
  tags: ["Webhooks"],
  summary: "Meta's verification of a number's own callback address",
  request: { params: connectionPath, query: challengeQuery },
  responses: verified,
});

const receiveConnectionRoute = operation({ kind: "signed", by: "provider" }, ["too_large"], {
  method: "post",
  path: "/webhooks/meta/{phone_id}",
  tags: ["Webhooks"],
  summary: "Meta's events for one number",
  description: "What names another number than this connection's is kept as unknown, whatever the body says.",
  parameters: signatureHeader,
  request: { params: connectionPath },
  responses: received,
});

/** Documented, not parsed: `provenVersion` looks at the headers itself. */
const secretHeaders: RouteConfig["parameters"] = [
  {
    name: WEBHOOK_SECRET_HEADER,
    in: "header",
    required: false,
    description: "The connection's secret; or basic authentication with the connection's id and that secret.",
    schema: { type: "string" },
  },
];

const providerRoute = <P extends string>(path: P, summary: string) =>
  operation({ kind: "signed", by: "provider" }, ["too_large"], {
    method: "post",
    path,
    tags: ["Webhooks"],
    summary,
    description: "What names another number than this connection's is kept as unknown, whatever the body says.",
    parameters: secretHeaders,
    request: { params: connectionPath },
    responses: received,
  });

const receive360Route = providerRoute("/webhooks/360dialog/{phone_id}", "360dialog's events for one number");
const receiveInfobipRoute = providerRoute("/webhooks/infobip/{phone_id}", "Infobip's events for one number");

/** The version of the connection's secret that a call proves, by header or basic authentication; null when none. */
async function provenVersion(c: AppContext, connection: string): Promise<number | null> {
  const basic = basicCredentials(c.req.header("authorization"));
  const secret = c.req.header(WEBHOOK_SECRET_HEADER) ?? (basic?.user === connection ? basic.password : null);
  return secret === null ? null : verifyWebhookSecret(c.var.rt, connection, secret);
}

/** Credentials first: nobody without them makes us read a body. */
async function receiveFrom(c: AppContext, provider: "360dialog" | "infobip", connection: string): Promise<void> {
  const secretVersion = await provenVersion(c, connection);
  if (secretVersion === null) throw new AppError("unauthenticated", "The secret is missing or wrong");
  const bytes = await readBounded(c.req.raw, MAX_WEBHOOK_BYTES);
  await enqueueWebhook(c.var.rt, { provider, connection, secretVersion }, bytes);
}

async function challenge(c: AppContext, query: z.output<typeof challengeQuery>): Promise<Response> {
  const answer = await answerChallenge(c.var.rt, {
    mode: query["hub.mode"],
    token: query["hub.verify_token"],
    challenge: query["hub.challenge"],
  });
  if (answer === null) throw new AppError("forbidden", "The verify token is wrong");
  // nosniff: the challenge is echoed as it came, so it must never be read as a page.
  return c.text(answer, 200, { "X-Content-Type-Options": "nosniff" });
}

/** Checks first, over the very bytes that came; only then anything is read out of them. */
async function receive(c: AppContext, connection: string | null): Promise<void> {
  const header = c.req.header("x-hub-signature-256");
  const bytes = await readBounded(c.req.raw, MAX_WEBHOOK_BYTES);
  let signed = await isSigned(bytes, header, appSecrets(c.var.rt));
  // A number may have an app of its own; its secret is only looked up when ours did not fit.
  if (!signed && connection !== null && header !== undefined) {
    signed = await isSigned(bytes, header, await webhookSecrets(c.var.rt, connection));
  }
  if (signed) return enqueueWebhook(c.var.rt, { provider: "meta", connection }, bytes);
  if (connection === null && header === undefined && (await receiveResults(c, bytes))) return;
  throw new AppError("unauthenticated", "The signature is missing or wrong");
}

/**
 * The app's address takes Infobip's results as well (contract 23): basic authentication names the connection, and its
 * secret proves it, so nothing is read. False when it is none of these.
 */
async function receiveResults(c: AppContext, bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
  const basic = basicCredentials(c.req.header("authorization"));
  if (basic === null || !isUuid(basic.user)) return false;
  const secretVersion = await verifyWebhookSecret(c.var.rt, basic.user, basic.password);
  if (secretVersion === null || !holdsResults(bytes)) return false;
  await enqueueWebhook(c.var.rt, { provider: "infobip", connection: basic.user, secretVersion }, bytes);
  return true;
}

const router = createRouter();
for (const path of ["/webhook", "/webhooks/*"]) router.use(path, deliveryFrame, withRuntime);

/** Mounted before the frame of the API: a provider is no browser, and needs neither CORS nor a log line per delivery. */
export const webhookRoutes = router
  .openapi(verifyRoute, async (c) => (await challenge(c, c.req.valid("query"))) as never)
  .openapi(receiveRoute, async (c) => {
    await receive(c, null);
    return c.json({ status: "received" as const }, 200);
  })
  .openapi(verifyConnectionRoute, async (c) => (await challenge(c, c.req.valid("query"))) as never)
  .openapi(receiveConnectionRoute, async (c) => {
    await receive(c, c.req.valid("param").phone_id);
    return c.json({ status: "received" as const }, 200);
  })
  .openapi(receive360Route, async (c) => {
    await receiveFrom(c, "360dialog", c.req.valid("param").phone_id);
    return c.json({ status: "received" as const }, 200);
  })
  .openapi(receiveInfobipRoute, async (c) => {
    await receiveFrom(c, "infobip", c.req.valid("param").phone_id);
    return c.json({ status: "received" as const }, 200);
  });
