/** Files of received messages: fetched while the provider's links live, stored as our own, shown on their messages. */
import { openConnection } from "../phone-numbers/service";
import { numbersById } from "../phone-numbers/service-pipeline";
import { isoMillis } from "../platform/clock";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import type { Connection, MediaDownload, MediaInfo, Provider, ProviderResult } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { publishEvents } from "../realtime/publish";
import { chunksOf } from "./chunks";
import { cleanFileName } from "./file-name";
import type { MediaJob } from "./jobs";
import { LARGEST, wellFormedMime } from "./kinds";
import { PendingObject } from "./pending-object";
import { isMediaType, providerMediaIdOf } from "./references";
import type { MediaType } from "./schema";
import { dropObject } from "./service";
import { type Media, selectByKeys } from "./store";
import { upsertFetched, upsertUnfetched } from "./store-objects";

/** The parts of a stored message that a fetch needs. */
export interface ReceivedMessage {
  workspaceId: string;
  id: string;
  phoneNumberId: string;
  conversationId: string;
  waMessageId: string | null;
  type: string;
  content: Record<string, unknown>;
}

/** Seconds before the next try. A received file can be had for 7 days (facts 1.4), a fresh link at any time of them. */
const RETRY_AFTER = [10, 60, 300, 1800, 7200, 21_600, 43_200] as const;

/** ms for a whole file; the largest are 100 MB. */
const DOWNLOAD_TIME = 120_000;

/** The job of one message's file, null when it has none. */
function jobOf(message: ReceivedMessage, shardNumber: number, now: number): MediaJob | null {
  const providerMediaId = providerMediaIdOf(message);
  if (providerMediaId === null) return null;
  const { workspaceId, phoneNumberId, id, conversationId, waMessageId, type, content } = message;
  const told = (name: string) => {
    const value = content[name];
    return typeof value === "string" && value !== "" ? value.slice(0, 2000) : null;
  };
  return {
    v: 1,
    kind: "media.fetch",
    workspaceId,
    shard: shardNumber,
    phoneNumberId,
    providerMediaId,
    message: { id, conversationId, waMessageId, type },
    told: { url: told("url"), mimeType: told("mime_type"), fileName: told("filename") },
    orderedAt: now,
    attempt: 1,
  };
}

/** A queue takes this many messages in one call. */
const SEND_BATCH = 100;

/** Orders the files of messages that were stored. Ordering one twice does no harm. Throws when the queue refuses. */
export async function orderFetches(
  rt: Runtime,
  shardNumber: number,
  messages: readonly ReceivedMessage[],
): Promise<void> {
  const jobs = messages.flatMap((message) => jobOf(message, shardNumber, rt.clock()) ?? []);
  for (let start = 0; start < jobs.length; start += SEND_BATCH) {
    await rt.env.MEDIA_JOBS.sendBatch(jobs.slice(start, start + SEND_BATCH).map((body) => ({ body })));
  }
}

/** Why a file was not had. `final`: asking again gets the same. */
interface Failure {
  final: boolean;
  code: string | number;
  title: string;
  details: string | null;
}

const later = (code: string, title: string, details: string | null): Failure => ({
  final: false,
  code,
  title,
  details,
});
const never = (code: string | number, title: string, details: string | null): Failure => ({
  final: true,
  code,
  title,
  details,
});

const UNAVAILABLE = "The file could not be fetched from the provider";
const BROKEN = later("download_failed", UNAVAILABLE, "The connection broke while the file was read");

/** Fetches one file, or notes why not and orders the next try. */
export async function fetchReceived(rt: Runtime, job: MediaJob): Promise<void> {
  const db = shard(rt, job.shard);
  const [known] = await selectByKeys(db, [job]);
  if (known && known.deletedAt !== null) return;
  // Fetched for another message, or by a run that ended before it could say so.
  if (known?.status === "ready") return announce(rt, job, "ready");
  const [number] = (await numbersById(db, [{ workspaceId: job.workspaceId, id: job.phoneNumberId }])).values();
  const failure = number
    ? await attempt(rt, job, providerFor(rt, number.provider), await openConnection(rt, number))
    : never("number_deleted", "The phone number was deleted before the file could be fetched", null);
  if (failure === null) return announce(rt, job, "ready");
  await settleFailure(rt, job, failure);
}

/** Null when the file is stored. */
async function attempt(
  rt: Runtime,
  job: MediaJob,
  provider: Provider,
  connection: Connection,
): Promise<Failure | null> {
  const found = await open(job, provider, connection);
  if ("failure" in found) return found.failure;
  const { download, url, mimeType } = found;
  const tooLarge = never("too_large", "The file is larger than files may be", `At most ${LARGEST} bytes are kept`);
  if ((download.size ?? 0) > LARGEST) {
    await download.body.cancel();
    return tooLarge;
  }
  const place = { db: shard(rt, job.shard), workspaceId: job.workspaceId };
  const pending = new PendingObject(rt, () => place);
  try {
    for await (const chunk of chunksOf(download.body, () => new Unkept(BROKEN))) {
      if (pending.writer.size + chunk.length > LARGEST) throw new Unkept(tooLarge);
      await pending.writer.write(chunk);
    }
    if (pending.writer.size === 0) throw new Unkept(later("download_failed", UNAVAILABLE, "The provider sent no bytes"));
    const object = await pending.store(place);
    const file = { ...fileOf(rt, job), mimeType: wellFormedMime(mimeType), originalUrl: url };
    const media = await upsertFetched(place.db, job, file, object, rt.clock());
    if (media?.objectId !== object.id) await dropObject(rt, place.db, { workspaceId: job.workspaceId, id: object.id });
    return null;
  } catch (error) {
    await pending.abandon();
    if (error instanceof Unkept) return error.failure;
    throw error;
  }
}

/** What ends the reading of a file that is not kept. */
class Unkept extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.title);
    this.failure = failure;
  }
}

interface Found {
  download: MediaDownload & { kind: "ok" };
  url: string;
  mimeType: string | null;
}

/** The link of the webhook where it gave one, then a fresh one, and another where that leads nowhere. */
async function open(job: MediaJob, provider: Provider, connection: Connection): Promise<Found | { failure: Failure }> {
  const { url: told, mimeType } = job.told;
  if (told !== null) {
    const download = await provider.downloadMedia(connection, told, DOWNLOAD_TIME);
    // Whatever is wrong with it, a fresh link may do.
    if (download.kind === "ok") return { download, url: told, mimeType: mimeType ?? download.mimeType };
  }
  for (let asked = 1; ; asked += 1) {
    const info = await provider.mediaInfo(connection, job.providerMediaId);
    if (!info.ok) return { failure: refusal(info) };
    const download = await provider.downloadMedia(connection, info.value.url, DOWNLOAD_TIME);
    if (download.kind === "ok") {
      return { download, url: info.value.url, mimeType: mimeType ?? info.value.mimeType ?? download.mimeType };
    }
    if (download.kind === "failed") return { failure: later("download_failed", UNAVAILABLE, download.reason) };
    if (asked === 2) return { failure: later("download_failed", UNAVAILABLE, "Its link leads nowhere") };
  }
}

/** Why there is no link: the provider is not there, or has to be told a new token first, or the file is gone. */
function refusal(info: ProviderResult<MediaInfo> & { ok: false }): Failure {
  if (!info.refused) return later("provider_unavailable", UNAVAILABLE, info.reason);
  const { code, title, details, retryable } = info.error;
  if (retryable) return { final: false, code, title, details };
  return never("expired", "The provider does not have the file any more", `${code}: ${title}`);
}

function fileOf(
  rt: Runtime,
  job: MediaJob,
): Pick<Media, "id" | "type" | "fileName" | "mimeType" | "originalUrl" | "messageId"> {
  return {
    id: rt.newId(),
    type: typeOf(job.message.type),
    fileName: cleanFileName(job.told.fileName),
    mimeType: wellFormedMime(job.told.mimeType),
    originalUrl: job.told.url,
    messageId: job.message.id,
  };
}

/** A sticker is a picture to whoever lists files. */
function typeOf(messageType: string): MediaType {
  if (messageType === "sticker") return "image";
  return isMediaType(messageType) ? messageType : "document";
}

async function settleFailure(rt: Runtime, job: MediaJob, failure: Failure): Promise<void> {
  const wait = failure.final ? undefined : RETRY_AFTER[job.attempt - 1];
  const { code, title, details } = failure;
  log("warn", "media.fetch_failed", {
    workspace_id: job.workspaceId,
    message_id: job.message.id,
    code: String(code),
    attempt: job.attempt,
    again: wait !== undefined,
  });
  const error = { code, title, details };
  if (wait !== undefined) {
    await upsertUnfetched(shard(rt, job.shard), job, fileOf(rt, job), { status: "pending", error }, rt.clock());
    const again: MediaJob = { ...job, told: { ...job.told, url: null }, attempt: job.attempt + 1 };
    await rt.env.MEDIA_JOBS.send(again, { delaySeconds: wait });
    return;
  }
  await upsertUnfetched(shard(rt, job.shard), job, fileOf(rt, job), { status: "failed", error }, rt.clock());
  await announce(rt, job, "failed");
}

/** Who looks at the message sees its file. A lost event is repaired by the next fetch. */
async function announce(rt: Runtime, job: MediaJob, status: string): Promise<void> {
  const { waMessageId, conversationId, id } = job.message;
  const at = isoMillis(rt.clock());
  const event = {
    type: "message.event" as const,
    conversation_id: conversationId,
    target: waMessageId ?? id,
    kind: "media",
    at,
  };
  try {
    await publishEvents(rt, job.workspaceId, `media:${id}:${status}:${job.orderedAt}:${job.attempt}`, [event], null);
  } catch (error) {
    log("warn", "live.publish_failed", { workspace_id: job.workspaceId, ...errorFields(error) });
  }
}

/** Orders a message's file anew. 409 when it has none, or has it already. */
export async function retryFetch(rt: Runtime, shardNumber: number, message: ReceivedMessage): Promise<void> {
  const job = jobOf(message, shardNumber, rt.clock());
  if (!job) throw new AppError("conflict", "The message has no file to fetch");
  const db = shard(rt, shardNumber);
  const [known] = await selectByKeys(db, [job]);
  if (known?.deletedAt != null) throw new AppError("conflict", "The file was deleted");
  if (known?.status === "ready") throw new AppError("conflict", "The file was fetched already");
  // The link of the webhook is of no use any more.
  const again: MediaJob = { ...job, told: { ...job.told, url: null } };
  await upsertUnfetched(db, again, fileOf(rt, again), { status: "pending", error: null }, rt.clock());
  await rt.env.MEDIA_JOBS.send(again);
}
