import { type RouteConfig, z } from "@hono/zod-openapi";
import { operation } from "../auth/operation";
import { webhookSecrets } from "../phone-numbers/service-pipeline";
import { type AppContext, createRouter, deliveryFrame, withRuntime } from "../platform/app";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { answerChallenge, appSecrets, enqueueWebhook, isSigned, MAX_WEBHOOK_BYTES, readBounded } from "./receive";

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
  if (!signed) throw new AppError("unauthenticated", "The signature is missing or wrong");
  await enqueueWebhook(c.var.rt, { provider: "meta", connection }, bytes);
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
  });
