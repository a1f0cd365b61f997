/** Infobip's host: every call goes to the state object as it is, and bytes of media come out of the bucket. */
import type { SandboxConfig, SandboxEnv } from "../env";
import { perform, respond } from "../http";

export async function infobip(request: Request, env: SandboxEnv, mode: SandboxConfig["MODE"]): Promise<Response> {
  const url = new URL(request.url);
  const prefix = mode === "dev" ? "/infobip" : "";
  const path = url.pathname
    .slice(prefix.length)
    .split("/")
    .filter((part) => part !== "")
    .map(decodeURIComponent);
  const given = await perform(env, {
    surface: "infobip",
    key: /^App (\S+)$/.exec(request.headers.get("Authorization") ?? "")?.[1] ?? null,
    method: request.method,
    path,
    query: JSON.stringify(Object.fromEntries(url.searchParams)),
    body: (await request.text()) || "{}",
    origin: `${url.origin}${prefix}`,
  });
  const isMedia = path[4] === "media" && (request.method === "GET" || request.method === "HEAD");
  if (!isMedia || given.status !== 200 || given.fault) return respond(given, mode);
  const file = await env.MEDIA.get(path[5] ?? "");
  if (!file) return new Response(null, { status: 404 });
  const headers = {
    "Content-Type": file.httpMetadata?.contentType ?? "application/octet-stream",
    "Content-Length": String(file.size),
  };
  return new Response(request.method === "HEAD" ? null : file.body, { headers });
}
