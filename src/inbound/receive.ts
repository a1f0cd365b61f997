/**
 * Receiving a webhook (pipeline 7): bounded, authenticated over the raw bytes, split, queued, 200. No database: what is
 * acknowledged is in the queue, and what the queue does not take is answered 500, so the provider sends it again.
 */
import { z } from "zod";
import { fromHex, safeEqual, verifyHmacSha256 } from "../platform/crypto";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { splitWebhook } from "../providers/webhooks";
import type { WebhookJob } from "./jobs";

/** Meta's largest webhook bodies (facts: 1.10). */
export const MAX_WEBHOOK_BYTES = 3 * 1024 * 1024;
/** A queue message has 128 KB and JSON escaping may nearly double a body of quotes. */
const MAX_PART_BYTES = 60_000;
/** What of a queue message's 128,000 bytes is ours; about 100 are the platform's. */
const MAX_MESSAGE_BYTES = 125_000;
/** One sendBatch takes 256 KB and 100 messages. */
const MAX_SEND_BYTES = 240_000;
const MAX_SEND_MESSAGES = 100;

/** The body's bytes; 413 as soon as it is longer than it may be, whatever length it declared. */
export async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = () => new AppError("too_large", `The body is larger than ${maxBytes} bytes`);
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge();
  // A declared length holds: the platform ends the body there. Reading it at once takes a quarter less time.
  if (request.headers.has("content-length")) {
    const bytes = new Uint8Array(await request.arrayBuffer());
    if (bytes.byteLength > maxBytes) throw tooLarge();
    return bytes;
  }
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body as ReadableStream<Uint8Array>) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  if (chunks.length === 1 && chunks[0]) return chunks[0] as Uint8Array<ArrayBuffer>;
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole;
}

const SIGNATURE = /^sha256=([0-9a-f]{64})$/i;

/**
 * Whether one of the secrets signed exactly these bytes (Meta: `X-Hub-Signature-256`, over the raw body). No header, a
 * malformed one, or no secret at all: false. Several secrets while one is rotated.
 */
export async function isSigned(
  bytes: Uint8Array<ArrayBuffer>,
  header: string | undefined,
  secrets: readonly string[],
): Promise<boolean> {
  const signature = fromHex(SIGNATURE.exec(header ?? "")?.[1] ?? "");
  if (!signature) return false;
  for (const secret of secrets) {
    if (await verifyHmacSha256(secret, bytes, signature)) return true;
  }
  return false;
}

/** The app's secrets, the current and the one being rotated out. */
export function appSecrets(rt: Runtime): string[] {
  return [rt.config.META_APP_SECRET, rt.config.META_APP_SECRET_PREVIOUS].filter((secret) => secret !== undefined);
}

/** Meta's handshake: the challenge, or null when the token is wrong or none is configured. */
export async function answerChallenge(
  rt: Runtime,
  query: { mode?: string; token?: string; challenge?: string },
): Promise<string | null> {
  const expected = rt.config.WHATSAPP_WEBHOOK_VERIFY_TOKEN;
  if (expected === undefined || query.mode !== "subscribe" || query.token === undefined) return null;
  return (await safeEqual(query.token, expected)) ? (query.challenge ?? "") : null;
}

/** `Authorization: Basic …`, or null when there is none that can be read. */
export function basicCredentials(header: string | undefined): { user: string; password: string } | null {
  const encoded = /^Basic ([A-Za-z0-9+/=]{1,1000})$/i.exec(header ?? "")?.[1];
  if (encoded === undefined) return null;
  let text: string;
  try {
    text = atob(encoded);
  } catch {
    return null;
  }
  const colon = text.indexOf(":");
  return colon < 0 ? null : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Whether a body has the shape of Infobip's messages and reports. */
export function holdsResults(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    return resultsBody.safeParse(JSON.parse(new TextDecoder().decode(bytes))).success;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

const resultsBody = z.object({ results: z.array(z.unknown()) });

/** Puts a signed body into the queue, in parts. Throws when the queue (or R2, for an oversized item) refuses. */
export async function enqueueWebhook(
  rt: Runtime,
  source: Pick<WebhookJob, "provider" | "connection" | "secretVersion">,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const receivedAt = rt.clock();
  const text = new TextDecoder().decode(bytes);
  const parts = splitWebhook(source.provider, text, MAX_PART_BYTES);
  const base = { v: 1 as const, kind: "webhook.part" as const, ...source, receivedAt };
  const jobs: WebhookJob[] = [];
  for (const { text: body, oversized, firstPosition } of parts) {
    const job = { ...base, firstPosition, body };
    jobs.push(oversized || !fitsQueue(job) ? { ...base, firstPosition, r2Key: await putLarge(rt, body) } : job);
  }
  const [only] = jobs;
  if (only && jobs.length === 1) {
    await rt.env.INBOUND.send(only);
    return;
  }
  for (const batch of inBatches(jobs)) await rt.env.INBOUND.sendBatch(batch.map((body) => ({ body })));
}

/** Control characters, which only a body that is no JSON has, take six bytes each when they are escaped. */
function fitsQueue(job: WebhookJob & { body: string }): boolean {
  return job.body.length * ESCAPED_BYTES <= MAX_MESSAGE_BYTES || bytesOf(job) <= MAX_MESSAGE_BYTES;
}

const ESCAPED_BYTES = 6;

function bytesOf(job: WebhookJob): number {
  return new TextEncoder().encode(JSON.stringify(job)).byteLength;
}

async function putLarge(rt: Runtime, body: string): Promise<string> {
  const key = `webhooks/${rt.newId()}.json`;
  await rt.env.MEDIA.put(key, body);
  return key;
}

function inBatches(jobs: readonly WebhookJob[]): WebhookJob[][] {
  const batches: WebhookJob[][] = [];
  let size = 0;
  for (const job of jobs) {
    const bytes = bytesOf(job) + 100;
    const current = batches.at(-1);
    if (current && current.length < MAX_SEND_MESSAGES && size + bytes <= MAX_SEND_BYTES) {
      current.push(job);
      size += bytes;
    } else {
      batches.push([job]);
      size = bytes;
    }
  }
  return batches;
}
