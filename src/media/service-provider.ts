/** Files on their way to a provider: uploaded once per number, then sent by the provider's id until it expires. */
import type { PhoneNumber } from "../phone-numbers/service";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import type { Connection, ProviderError, SendOutcome, UploadOutcome } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { signLink } from "./links";
import { objectKey } from "./object-writer";
import { filesOf, mapFiles } from "./references";
import type { Media } from "./store";
import { deleteProviderIds, type SentMedia, selectForSending, upsertProviderId } from "./store-provider";

/** The parts of a message that its files are found by. */
export interface FileCarrier {
  workspaceId: string;
  phoneNumberId: string;
  type: string;
  content: Record<string, unknown>;
}

/** The content as the provider takes it, or what became of the message instead. */
export type AttachedFiles =
  /** `kept`: an id in it was kept of an earlier batch. */
  { ok: true; content: Record<string, unknown>; kept: boolean } | { ok: false; outcome: SendOutcome };

const GONE: ProviderError = {
  code: "media_deleted",
  title: "The file was deleted before the message could be sent",
  details: null,
  retryable: false,
};

const UNREADABLE: ProviderError = {
  code: "media_unavailable",
  title: "The file could not be handed to the provider",
  details: null,
  retryable: true,
};

/** Seconds that a provider has to fetch a file: as long as a message may wait. */
const LINK_LIVES = 86_400;

/** Whether a message names a file of ours. */
export function carriesFiles(message: Pick<FileCarrier, "type" | "content">): boolean {
  return filesOf(message).length > 0;
}

/** The files of one claimed batch: known to their providers already, or to be uploaded before the first send. */
export class BatchFiles {
  readonly #rt: Runtime;
  readonly #shardNumber: number;
  readonly #known: Map<string, SentMedia>;
  /** By number and content: what one message of the batch waits for, or waited for in vain, is not begun again. */
  readonly #uploads = new Map<string, Promise<UploadOutcome>>();

  private constructor(rt: Runtime, shardNumber: number, known: Map<string, SentMedia>) {
    this.#rt = rt;
    this.#shardNumber = shardNumber;
    this.#known = known;
  }

  /** One read where any message names a file of ours, none otherwise. */
  static async load(rt: Runtime, shardNumber: number, messages: readonly FileCarrier[]): Promise<BatchFiles> {
    const wanted = messages.flatMap((message) =>
      filesOf(message).map(({ mediaId }) => ({
        workspaceId: message.workspaceId,
        phoneNumberId: message.phoneNumberId,
        mediaId,
      })),
    );
    const distinct = new Map(wanted.map((one) => [`${one.phoneNumberId} ${one.mediaId}`, one]));
    const known =
      distinct.size === 0
        ? new Map<string, SentMedia>()
        : await selectForSending(shard(rt, shardNumber), [...distinct.values()], rt.clock());
    return new BatchFiles(rt, shardNumber, known);
  }

  /** Whether a message waits for an upload: those that do not should go first. */
  waits(message: FileCarrier): boolean {
    return filesOf(message).some(({ mediaId }) => this.#find(message, mediaId)?.providerMediaId === null);
  }

  /**
   * A message's content with the provider's ids in place of ours. Uploads what the provider does not have, within
   * `timeout` ms. Never throws for what the provider or the file are to blame for.
   */
  async attach(
    message: FileCarrier,
    number: PhoneNumber,
    connection: Connection,
    timeout: number,
  ): Promise<AttachedFiles> {
    const { mediaBy } = providerFor(this.#rt, number.provider);
    const sendable = new Map<string, Record<string, unknown>>();
    let kept = false;
    for (const { mediaId } of filesOf(message)) {
      const sent = this.#find(message, mediaId);
      if (!sent) return { ok: false, outcome: { kind: "permanent", error: GONE } };
      if (mediaBy === "link") {
        const link = await this.#link(sent.media, number);
        if (link === null) return { ok: false, outcome: { kind: "transient", error: UNREADABLE, retryAfter: null } };
        sendable.set(mediaId, { link, filename: sent.media.fileName });
        continue;
      }
      if (sent.providerMediaId === null) {
        const outcome = await this.#uploaded(sent.media, number, connection, timeout);
        if (outcome.kind !== "uploaded") return { ok: false, outcome };
        sent.providerMediaId = outcome.providerMediaId;
      }
      kept ||= sent.providerMediaId === sent.kept;
      sendable.set(mediaId, { id: sent.providerMediaId, filename: sent.media.fileName });
    }
    const content = mapFiles(message, (mediaId, rest, as) => {
      const { filename, ...named } = sendable.get(mediaId) ?? {};
      // A document shows its name; one that was given for this message wins.
      return { ...named, ...(as === "document" && typeof filename === "string" ? { filename } : {}), ...rest };
    });
    return { ok: true, content, kept };
  }

  /**
   * Forgets the ids that were kept of the message's files: the provider does not know them any more, and the next try
   * uploads the files anew. Throws when the database does not answer.
   */
  async forget(message: FileCarrier): Promise<void> {
    const { workspaceId, phoneNumberId } = message;
    const old = filesOf(message).flatMap(({ mediaId }) => {
      const sent = this.#find(message, mediaId);
      if (!sent || sent.kept === null || sent.media.sha256 === null) return [];
      // What stands behind this message in the batch need not find the same out.
      if (sent.providerMediaId === sent.kept) sent.providerMediaId = null;
      const { sha256, mimeType } = sent.media;
      return [{ workspaceId, phoneNumberId, sha256, mimeType, id: sent.kept }];
    });
    await deleteProviderIds(shard(this.#rt, this.#shardNumber), old);
  }

  /** Where a provider that takes addresses fetches a file; null for a number that was never told where we are. */
  async #link(media: Media, number: PhoneNumber): Promise<string | null> {
    if (number.webhookOrigin === null) return null;
    const { workspaceId, id: mediaId } = media;
    const expires = Math.floor(this.#rt.clock() / 1000) + LINK_LIVES;
    const shardOf = this.#shardNumber;
    const link = { workspaceId, mediaId, shard: shardOf, expires, disposition: "attachment" } as const;
    return `${number.webhookOrigin}${await signLink(this.#rt, link)}`;
  }

  #find(message: FileCarrier, mediaId: string): SentMedia | undefined {
    const sent = this.#known.get(`${message.phoneNumberId} ${mediaId}`);
    return sent?.media.workspaceId === message.workspaceId ? sent : undefined;
  }

  #uploaded(media: Media, number: PhoneNumber, connection: Connection, timeout: number): Promise<UploadOutcome> {
    const key = `${number.id} ${media.sha256} ${media.mimeType}`;
    const begun = this.#uploads.get(key);
    if (begun !== undefined) return begun;
    // A bucket or database that does not answer is a reason to wait, not one to stop the messages without files.
    const upload = this.#upload(media, number, connection, timeout).catch((error: unknown): UploadOutcome => {
      log("warn", "media.upload_failed", {
        workspace_id: media.workspaceId,
        media_id: media.id,
        ...errorFields(error),
      });
      return { kind: "transient", error: UNREADABLE, retryAfter: null };
    });
    this.#uploads.set(key, upload);
    return upload;
  }

  async #upload(media: Media, number: PhoneNumber, connection: Connection, timeout: number): Promise<UploadOutcome> {
    const rt = this.#rt;
    const object = media.objectId === null ? null : await rt.env.MEDIA.get(objectKey(media.objectId));
    if (!object || media.sha256 === null) return { kind: "permanent", error: GONE };
    const provider = providerFor(rt, number.provider);
    const file = { body: object.body, size: object.size, mimeType: media.mimeType, fileName: media.fileName ?? "file" };
    const outcome = await provider.uploadMedia(connection, file, timeout);
    if (outcome.kind === "uploaded") {
      await upsertProviderId(shard(rt, this.#shardNumber), {
        workspaceId: media.workspaceId,
        phoneNumberId: number.id,
        sha256: media.sha256,
        mimeType: media.mimeType,
        providerMediaId: outcome.providerMediaId,
        expiresAt: rt.clock() + provider.uploadsLive,
      });
    }
    return outcome;
  }
}
