import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callGraph, type GraphAnswer } from "./graph";
import { resultOf } from "./meta-results";
import type {
  Connection,
  MediaDownload,
  MediaInfo,
  MediaLimit,
  OutgoingFile,
  ProviderError,
  ProviderResult,
} from "./provider";

const KB = 1024;
const MB = 1024 * KB;
const DAY = 86_400_000;

/** Uploaded ids live 30 days (Meta, "Media"); the last one is left alone. */
export const META_UPLOADS_LIVE = 29 * DAY;

/** Codes of a parameter that is not valid (facts 1.7); what it is stands in their text only. */
const BAD_PARAMETER = new Set(["100", "131009"]);
/** The file of the message could not be had. */
const MEDIA_UPLOAD_ERROR = "131053";

/** Meta names the media id among others of its parameters: "… is not a valid whatsapp business account media attachment ID". */
export function metaForgotFile({ code, title, details }: ProviderError): boolean {
  if (String(code) === MEDIA_UPLOAD_ERROR) return true;
  return BAD_PARAMETER.has(String(code)) && /\bmedia\b/i.test(`${title} ${details ?? ""}`);
}

const OOXML = "application/vnd.openxmlformats-officedocument";

interface MediaRule {
  /** The message type that carries it; a document carries everything. */
  type: "image" | "video" | "audio" | "document" | "sticker";
  /** Bytes. */
  limit: number;
}

function rules(type: MediaRule["type"], limit: number, ...mimeTypes: string[]): [string, MediaRule][] {
  return mimeTypes.map((mimeType) => [mimeType, { type, limit }]);
}

/** What Meta stores (facts 1.4). */
const RULES: ReadonlyMap<string, MediaRule> = new Map([
  ...rules("audio", 16 * MB, "audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"),
  ...rules("image", 5 * MB, "image/jpeg", "image/png"),
  ...rules("video", 16 * MB, "video/mp4", "video/3gpp"),
  // Animated ones; of static ones Meta itself takes less (100 KB) and says so.
  ...rules("sticker", 500 * KB, "image/webp"),
  ...rules(
    "document",
    100 * MB,
    "text/plain",
    "application/pdf",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    `${OOXML}.wordprocessingml.document`,
    `${OOXML}.spreadsheetml.sheet`,
    `${OOXML}.presentationml.presentation`,
  ),
]);

/** Characters (facts 1.2). */
const MAX_CAPTION = 1024;
const WITHOUT_CAPTION = new Set(["audio", "sticker"]);

/** What Meta would refuse of a file and its caption (contract 15). */
export function metaMediaLimit(file: {
  messageType: string;
  mimeType: string;
  size: number;
  caption: string | null;
}): MediaLimit | null {
  const { messageType, mimeType, size, caption } = file;
  const rule = RULES.get(mimeType.split(";")[0]?.trim() ?? "");
  if (!rule || (messageType !== "document" && rule.type !== messageType)) {
    const carried = [...RULES].filter(([, { type }]) => type === messageType).map(([mime]) => mime);
    return {
      field: "media_id",
      limit: carried.join(", "),
      reason: `Meta carries no ${mimeType} in ${messageType} messages, only ${carried.join(", ")}`,
    };
  }
  if (size > rule.limit) {
    return {
      field: "media_id",
      limit: rule.limit,
      reason: `Meta takes files of type ${mimeType} up to ${rule.limit} bytes; this one has ${size}`,
    };
  }
  if (caption === null || caption === "") return null;
  if (WITHOUT_CAPTION.has(messageType)) {
    return { field: "caption", limit: 0, reason: `Meta carries no caption with ${messageType} messages` };
  }
  if ([...caption].length <= MAX_CAPTION) return null;
  return { field: "caption", limit: MAX_CAPTION, reason: `Meta takes captions of up to ${MAX_CAPTION} characters` };
}

/** Uploads a file as it comes; its length is known, so nothing of it waits in memory. Never throws. */
export function postMetaMedia(
  rt: Runtime,
  connection: Connection,
  file: OutgoingFile,
  timeout: number,
): Promise<GraphAnswer> {
  return asForm(file, (stream) =>
    callGraph(rt, {
      method: "POST",
      path: [connection.providerNumberId, "media"],
      stream,
      timeout,
      accessToken: connection.accessToken,
    }),
  );
}

/** Makes the form of an upload, pours the file through it while `call` is under way, and answers what that answers. */
export async function asForm(
  file: OutgoingFile,
  call: (stream: { contentType: string; body: ReadableStream<Uint8Array> }) => Promise<GraphAnswer>,
): Promise<GraphAnswer> {
  const boundary = `----${crypto.randomUUID()}`;
  const encoder = new TextEncoder();
  const field = (name: string, value: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const before = encoder.encode(
    `${field("messaging_product", "whatsapp")}${field("type", file.mimeType)}--${boundary}\r\n` +
      `Content-Disposition: form-data; name="file"; filename="${quotable(file.fileName)}"\r\nContent-Type: ${file.mimeType}\r\n\r\n`,
  );
  const after = encoder.encode(`\r\n--${boundary}--\r\n`);
  const { readable, writable } = new FixedLengthStream(before.length + file.size + after.length);
  const stop = new AbortController();
  // A file that breaks off is told by the answer, which is `lost` then; an answer that comes early ends the pouring.
  pour(writable, before, file.body, after, stop.signal).catch(() => undefined);
  const answer = await call({ contentType: `multipart/form-data; boundary=${boundary}`, body: readable });
  stop.abort();
  return answer;
}

async function pour(
  writable: WritableStream<Uint8Array>,
  before: Uint8Array,
  body: ReadableStream<Uint8Array>,
  after: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  await write(writable, before);
  await body.pipeTo(writable, { preventClose: true, signal });
  await write(writable, after);
  await writable.close();
}

async function write(writable: WritableStream<Uint8Array>, bytes: Uint8Array): Promise<void> {
  const writer = writable.getWriter();
  try {
    await writer.write(bytes);
  } finally {
    writer.releaseLock();
  }
}

/** As browsers write names into a form: without what would end them. */
function quotable(name: string): string {
  return name.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}

const infoSchema = z.object({
  url: z.url(),
  mime_type: z.string().min(1).optional().catch(undefined),
  file_name: z.string().min(1).optional().catch(undefined),
  // A text in Meta's documents, a number in its traffic.
  file_size: z.coerce.number().int().nonnegative().optional().catch(undefined),
});

/** A fresh link; the one before works for five minutes. */
export async function metaMediaInfo(
  rt: Runtime,
  connection: Connection,
  providerMediaId: string,
): Promise<ProviderResult<MediaInfo>> {
  const answer = await callGraph(rt, {
    method: "GET",
    path: [providerMediaId],
    query: { phone_number_id: connection.providerNumberId },
    accessToken: connection.accessToken,
  });
  return mediaInfoOf(answer);
}

export function mediaInfoOf(answer: GraphAnswer): ProviderResult<MediaInfo> {
  return resultOf(answer, (body) => {
    const info = infoSchema.safeParse(body).data;
    if (!info) return undefined;
    const { url, mime_type: mimeType = null, file_name: fileName = null, file_size: size = null } = info;
    return { url, mimeType, fileName, size };
  });
}

/** Meta's download host; the token goes nowhere else. */
const DOWNLOAD_HOST = "lookaside.fbsbx.com";

/** In development links lead to the emulator that stands in for the Graph API. */
function isOwnHost(rt: Runtime, url: URL): boolean {
  if (url.protocol === "https:" && url.host === DOWNLOAD_HOST) return true;
  const graph = new URL(rt.config.META_GRAPH_URL);
  return graph.host !== "graph.facebook.com" && url.origin === graph.origin;
}

/** Reads a link of Meta's with the number's token. */
export async function downloadMetaMedia(
  rt: Runtime,
  connection: Connection,
  link: string,
  timeout: number,
): Promise<MediaDownload> {
  const url = URL.parse(link);
  if (!url || !isOwnHost(rt, url)) return { kind: "failed", reason: "The file's address is not the provider's" };
  return readFile(rt, url, { Authorization: `Bearer ${connection.accessToken}` }, timeout);
}

/** Reads a file at a provider's own host with these credentials; redirects are not followed. Never throws before the body is read. */
export async function readFile(
  rt: Runtime,
  url: URL,
  credentials: Record<string, string>,
  timeout: number,
): Promise<MediaDownload> {
  let response: Response;
  try {
    response = await rt.fetch(url.toString(), {
      headers: { ...credentials, Accept: "*/*" },
      redirect: "manual",
      signal: AbortSignal.timeout(timeout),
    });
  } catch {
    return { kind: "failed", reason: "The provider did not answer" };
  }
  if (response.ok && response.body) {
    const length = Number(response.headers.get("Content-Length") ?? Number.NaN);
    return {
      kind: "ok",
      body: response.body,
      size: Number.isSafeInteger(length) ? length : null,
      mimeType: response.headers.get("Content-Type"),
    };
  }
  await response.body?.cancel();
  // A link that has ended is answered as one to nothing, or as one that this token may not read.
  if ([401, 403, 404, 410].includes(response.status)) return { kind: "gone" };
  return { kind: "failed", reason: `The provider answered ${response.status}` };
}
