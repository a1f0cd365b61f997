import { z } from "zod";
import { hex, stableHash } from "../random";
import type { SettingsStore } from "../state/settings";
import type { Clock, Storage } from "../state/storage";
import { GraphError, noSuchObject } from "./graph-error";

/** A file whose bytes lie in the bucket under its id. */
export interface StoredFile {
  id: string;
  mimeType: string;
  size: number;
  /** Hex. */
  sha256: string;
  filename: string | null;
}

/** Types of example files (Graph API, "Upload a file"). */
const SAMPLE_TYPES = ["application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4"];

const uploadParams = z.object({
  file_name: z.string().min(1),
  file_length: z.coerce.number().int().min(1),
  file_type: z.string().min(1),
});
const sessionSchema = z.object({ size: z.number() });

interface MediaRow extends Record<string, SqlStorageValue> {
  id: string;
  phone_id: string;
  mime_type: string;
  size: number;
  sha256: string;
  filename: string | null;
}

/** Metadata of uploaded and received files, and the short-lived addresses of their bytes. */
export class MediaIndex {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly secret: string;

  constructor(storage: Storage, clock: Clock, settings: SettingsStore, secret: string) {
    this.storage = storage;
    this.clock = clock;
    this.settings = settings;
    this.secret = secret;
  }

  add(phoneId: string, file: StoredFile): void {
    this.storage.sql.exec(
      "INSERT INTO media (id, phone_id, mime_type, size, sha256, filename, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
      file.id,
      phoneId,
      file.mimeType,
      file.size,
      file.sha256,
      file.filename,
      this.clock(),
    );
  }

  find(id: string): StoredFile | null {
    const [row] = this.storage.sql.exec<MediaRow>("SELECT * FROM media WHERE id = ?", id);
    if (!row) return null;
    return { id: row.id, mimeType: row.mime_type, size: row.size, sha256: row.sha256, filename: row.filename };
  }

  remove(id: string): void {
    this.storage.sql.exec("DELETE FROM media WHERE id = ?", id);
  }

  /** The answer to `GET /{media}`: the address works for five minutes. `origin` is the host that serves the bytes. */
  show(file: StoredFile, origin: string): Record<string, unknown> {
    const expires = Math.floor(this.clock() / 1000) + this.settings.get().media_url_ttl;
    const url = new URL(`${origin}/whatsapp_business/attachments/`);
    url.searchParams.set("mid", file.id);
    url.searchParams.set("ext", String(expires));
    url.searchParams.set("hash", this.mark(file.id, expires));
    return {
      messaging_product: "whatsapp",
      url: url.toString(),
      mime_type: file.mimeType,
      sha256: file.sha256,
      file_size: file.size,
      id: file.id,
    };
  }

  /** The file an address leads to. Throws 404 for one that expired, was tampered with, or whose file is gone. */
  open(id: string, expires: string, mark: string): StoredFile {
    const seconds = Number(expires);
    const file = this.find(id);
    if (!file || mark !== this.mark(id, seconds) || seconds * 1000 <= this.clock()) {
      throw new GraphError(100, { message: "Media not found", status: 404 });
    }
    return file;
  }

  require(id: string, method: string): StoredFile {
    const file = this.find(id);
    if (!file) throw noSuchObject(id, method);
    return file;
  }

  /** `POST /{app}/uploads`: a session for one example file. Its id carries what it is for, and a signature of that. */
  startUpload(params: Record<string, unknown>): { id: string } {
    const parsed = uploadParams.safeParse(params);
    if (!parsed.success) {
      throw new GraphError(100, {
        message: `(#100) The parameter ${String(parsed.error.issues[0]?.path[0])} is required.`,
      });
    }
    const { file_length: size, file_type: mimeType } = parsed.data;
    if (!SAMPLE_TYPES.includes(mimeType)) {
      throw new GraphError(100, { message: `(#100) Param file_type must be one of {${SAMPLE_TYPES.join(", ")}}.` });
    }
    const session = btoa(JSON.stringify({ size, mimeType, at: this.clock() }));
    return { id: `upload:${session}?sig=${this.mark(session, size)}` };
  }

  /** `POST /upload:{session}`: the bytes. The handle tells what they were. */
  finishUpload(session: string, sig: string, offset: string, file: StoredFile): { h: string } {
    const { size } = sessionSchema.parse(JSON.parse(atob(session)));
    if (sig !== this.mark(session, size)) throw noSuchObject(`upload:${session}`, "post");
    if (offset !== "0" || file.size !== size) {
      throw new GraphError(100, {
        message: `(#100) Expected ${size} bytes from offset 0, got ${file.size} from ${offset}.`,
      });
    }
    return { h: `4::${btoa(file.sha256)}` };
  }

  private mark(id: string, expires: number): string {
    return stableHash(`${this.secret}:${id}:${expires}`).toString(36);
  }
}

/** Measures bytes that are about to be stored. */
export async function describeFile(
  id: string,
  bytes: ArrayBuffer,
  mimeType: string,
  filename: string | null,
): Promise<StoredFile> {
  return { id, mimeType, size: bytes.byteLength, sha256: hex(await crypto.subtle.digest("SHA-256", bytes)), filename };
}

/** Webhooks carry the digest in base64, `GET /{media}` in hex. */
export function base64Digest(sha256: string): string {
  const bytes = sha256.match(/../g)?.map((pair) => Number.parseInt(pair, 16)) ?? [];
  return btoa(String.fromCharCode(...bytes));
}
