import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callGraph } from "./graph";
import { resultOf } from "./meta-results";
import type { Connection, OutgoingFile, ProviderResult } from "./provider";

/** What Meta takes as the example of a template's header (Graph API, "Upload a file"). */
export const META_SAMPLE_TYPES: readonly string[] = ["application/pdf", "image/jpeg", "image/png", "video/mp4"];

const sessionSchema = z.object({ id: z.string().startsWith("upload:") });
const handleSchema = z.object({ h: z.string().min(1) });

/**
 * Uploads the example of a template's header by Meta's Resumable Upload API: a session of the app, then the bytes in one
 * go. Answers the handle that `header_handle` takes. What broke off is begun anew by the next try: the session it had is
 * nobody's, and a handle that is not used does no harm. Never throws.
 */
export async function uploadMetaSample(
  rt: Runtime,
  connection: Connection,
  file: OutgoingFile,
  timeout: number,
): Promise<ProviderResult<string>> {
  const appId = rt.config.META_APP_ID;
  if (appId === undefined) {
    const title = "The setting META_APP_ID of this deployment is missing: without it Meta takes no example files";
    return { ok: false, refused: true, error: { code: "not_configured", title, details: null, retryable: false } };
  }
  const { accessToken } = connection;
  const begun = await callGraph(rt, {
    method: "POST",
    path: [appId, "uploads"],
    query: { file_name: file.fileName, file_length: String(file.size), file_type: file.mimeType },
    accessToken,
  });
  const session = resultOf(begun, (body) => sessionSchema.safeParse(body).data?.id);
  if (!session.ok) return session;
  // The id is the rest of an address, its signature in the query included.
  const [name = "", query = ""] = session.value.split("?");
  const { readable, writable } = new FixedLengthStream(file.size);
  const stop = new AbortController();
  // A file that breaks off is told by the answer, which is `lost` then.
  file.body.pipeTo(writable, { signal: stop.signal }).catch(() => undefined);
  const answer = await callGraph(rt, {
    method: "POST",
    path: [name],
    query: Object.fromEntries(new URLSearchParams(query)),
    stream: { contentType: "application/octet-stream", body: readable },
    headers: { file_offset: "0" },
    scheme: "OAuth",
    timeout,
    accessToken,
  });
  stop.abort();
  return resultOf(answer, (body) => handleSchema.safeParse(body).data?.h);
}
