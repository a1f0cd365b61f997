import { toHex } from "../platform/crypto";

/** Parts of one object are equal but for the last (R2), and small enough for several uploads in one isolate. */
export const PART_BYTES = 8 * 1024 * 1024;

/** The buffer grows to a whole part only for files that need it. */
const FIRST_BUFFER = 64 * 1024;

/** Where an object's bytes lie. */
export function objectKey(objectId: string): string {
  return `media/${objectId}`;
}

/**
 * Writes bytes of unknown length to R2 with one part of them in memory, and hashes them on the way. `seal` ends the
 * writing, `store` makes the object visible, `abort` leaves nothing behind; after `store` there is nothing to abort.
 */
export class ObjectWriter {
  readonly #bucket: R2Bucket;
  readonly #key: string;
  readonly #begun: (multipartId: string) => Promise<void>;
  readonly #digest = new crypto.DigestStream("SHA-256");
  readonly #hash = this.#digest.getWriter();
  #buffer = new Uint8Array(FIRST_BUFFER);
  #filled = 0;
  #size = 0;
  #multipart: R2MultipartUpload | null = null;
  #parts: R2UploadedPart[] = [];
  #stored = false;

  /** `begun` is told R2's id of the multipart upload before it has any part; small files need none. */
  constructor(bucket: R2Bucket, key: string, begun: (multipartId: string) => Promise<void> = async () => undefined) {
    this.#bucket = bucket;
    this.#key = key;
    this.#begun = begun;
    // An aborted hash is nobody's failure.
    this.#digest.digest.catch(() => undefined);
  }

  get size(): number {
    return this.#size;
  }

  /** R2's id of the multipart upload; null as long as there is only one part. */
  get multipartId(): string | null {
    return this.#multipart?.uploadId ?? null;
  }

  /** Whether `store` ended: then there is nothing to abort. */
  get stored(): boolean {
    return this.#stored;
  }

  /** Returns when the bytes are copied, which may need a part to be uploaded first: await it before reading on. */
  async write(bytes: Uint8Array): Promise<void> {
    let rest = bytes;
    while (rest.length > 0) {
      const taken = rest.subarray(0, PART_BYTES - this.#filled);
      this.#grow(this.#filled + taken.length);
      this.#buffer.set(taken, this.#filled);
      this.#filled += taken.length;
      this.#size += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#filled === PART_BYTES) await this.#flush();
    }
  }

  /** No more bytes. Answers the SHA-256 in hex. */
  async seal(): Promise<string> {
    if (this.#filled > 0) await this.#hash.write(this.#buffer.subarray(0, this.#filled));
    await this.#hash.close();
    return toHex(await this.#digest.digest);
  }

  /** Makes the object. Only after `seal`. */
  async store(): Promise<void> {
    const last = this.#buffer.subarray(0, this.#filled);
    if (this.#multipart === null) {
      await this.#bucket.put(this.#key, last);
    } else {
      if (last.length > 0) this.#parts.push(await this.#multipart.uploadPart(this.#parts.length + 1, last));
      await this.#multipart.complete(this.#parts);
    }
    this.#stored = true;
  }

  /** Forgets what was written. Parts that could not be aborted are dropped by R2 itself after 7 days. */
  async abort(): Promise<void> {
    if (this.#stored) return;
    await this.#hash.abort().catch(() => undefined);
    await this.#multipart?.abort();
  }

  async #flush(): Promise<void> {
    const part = this.#buffer.subarray(0, this.#filled);
    if (this.#multipart === null) {
      this.#multipart = await this.#bucket.createMultipartUpload(this.#key);
      await this.#begun(this.#multipart.uploadId);
    }
    await this.#hash.write(part);
    this.#parts.push(await this.#multipart.uploadPart(this.#parts.length + 1, part));
    this.#filled = 0;
  }

  #grow(needed: number): void {
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.min(PART_BYTES, Math.max(needed, this.#buffer.length * 2)));
    grown.set(this.#buffer.subarray(0, this.#filled));
    this.#buffer = grown;
  }
}
