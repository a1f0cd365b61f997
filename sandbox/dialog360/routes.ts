/**
 * 360dialog: Meta's Cloud API behind another host and header, so each call is turned into the one of the Graph API that
 * stands behind it, and its answer back. The key says which number: the digits in it, or some that follow from it.
 */
import { z } from "zod";
import type { SandboxConfig, SandboxEnv } from "../env";
import { accountOfToken } from "../meta/accounts";
import { GraphError } from "../meta/graph-error";
import { graph, withoutVersion } from "../meta/routes";
import { stableHash } from "../random";

const BAD_KEYS = ["EXPIRED", "REVOKED", "INVALID"];

/** The number a key is for. */
function numberOf(key: string): string {
  const digits = /\d{5,32}/.exec(key)?.[0];
  return digits ?? `2${stableHash(key).toString().padStart(14, "0").slice(-14)}`;
}

function own(status: number, message: string): Response {
  const meta = {
    success: false,
    http_code: status,
    developer_message: message,
    "360dialog_trace_id": crypto.randomUUID(),
  };
  return Response.json({ meta }, { status });
}

export async function dialog360(request: Request, env: SandboxEnv, mode: SandboxConfig["MODE"]): Promise<Response> {
  const key = request.headers.get("D360-API-KEY");
  if (key === null || BAD_KEYS.some((word) => key.includes(word))) return own(401, "Invalid api_key");
  if (key.includes("NOPERMISSION")) return own(403, "The endpoint is blocked");
  const url = new URL(request.url);
  const path = mode === "dev" ? url.pathname.replace(/^\/360dialog/, "") : url.pathname;
  return route(path, { request, env, key, search: url.search });
}

interface Call {
  request: Request;
  env: SandboxEnv;
  key: string;
  search: string;
}

async function route(path: string, call: Call): Promise<Response> {
  const phoneId = numberOf(call.key);
  const account = accountOfToken(call.key);
  const { method } = call.request;
  switch (path) {
    case "/messages":
    case "/media":
    case "/whatsapp_business_profile":
      return forwarded(`/${phoneId}${path}${call.search}`, call);
    case "/v1/configs/webhook":
      return forwarded(`/${phoneId}/webhook_configuration`, call);
    case "/health_status":
      return health(phoneId, account, call);
    case "/v1/configs/templates":
      return method === "GET" ? templates(account, call) : forwarded(`/${account}/message_templates`, call);
    default: {
      const name = /^\/v1\/configs\/templates\/([^/]+)$/.exec(path)?.[1];
      if (name !== undefined && method === "DELETE")
        return forwarded(`/${account}/message_templates?name=${name}`, call);
      // Media by its id, as in the Graph API.
      if (/^\/\d+$/.test(path)) return forwarded(path, call);
      return own(404, "Not found");
    }
  }
}

const refusal = z.object({ error: z.object({ code: z.number() }) });

/** Answers what the Graph API answers; a rate limit of the endpoint is 360dialog's own, and a 400. */
async function forwarded(target: string, call: Call): Promise<Response> {
  const answer = await ask(target, call.request.method, call, await call.request.arrayBuffer());
  if (answer.status !== 400) return answer;
  const text = await answer.text();
  const code = refusal.safeParse(JSON.parse(text)).data?.error.code;
  if (code === 80007 || code === 130429) return own(400, "You have exceeded the endpoint rate limit.");
  return new Response(text, answer);
}

async function ask(target: string, method: string, { request, env, key }: Call, body?: ArrayBuffer): Promise<Response> {
  const headers = new Headers(request.headers);
  headers.delete("D360-API-KEY");
  headers.set("Authorization", `Bearer ${key}`);
  const init = { method, headers, ...(body && body.byteLength > 0 ? { body } : {}) };
  const asked = withoutVersion(new Request(`https://graph.facebook.com${target}`, init));
  if (asked instanceof GraphError) throw asked;
  return graph.fetch(asked, env);
}

/** Meta's status of a number, as 360dialog's health shows it. */
async function health(phoneId: string, account: string, call: Call): Promise<Response> {
  const answer = await ask(`/${phoneId}?fields=status`, "GET", call);
  if (!answer.ok) return answer;
  const { status } = z.object({ status: z.string() }).parse(await answer.json());
  const can = status === "CONNECTED" ? "AVAILABLE" : "BLOCKED";
  const entities = [
    { entity_type: "PHONE_NUMBER", id: phoneId, can_send_message: can },
    { entity_type: "WABA", id: account, can_send_message: "AVAILABLE" },
  ];
  return Response.json({ health_status: { can_send_message: can, entities }, id: phoneId });
}

const page = z.object({ data: z.array(z.looseObject({ id: z.string(), status: z.string() })) });

/** The list, in words of its own: states are small, and Meta's id stands beside its own. */
async function templates(account: string, call: Call): Promise<Response> {
  const query = new URLSearchParams(call.search);
  const limit = Number(query.get("limit") ?? 1000);
  const offset = Number(query.get("offset") ?? 0);
  const fields = "id,name,language,status,category,components,rejected_reason";
  const answer = await ask(`/${account}/message_templates?limit=1000&fields=${fields}`, "GET", call);
  if (!answer.ok) return answer;
  const { data } = page.parse(await answer.json());
  const shown = data.slice(offset, offset + limit).map((template) => ({
    ...template,
    id: `${template.id}_waba`,
    external_id: template.id,
    status: template.status.toLowerCase(),
  }));
  return Response.json({ waba_templates: shown, count: shown.length, limit, offset, total: data.length });
}
