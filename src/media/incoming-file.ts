import { AppError } from "../platform/errors";
import { type FileKind, LARGEST, MAX_BYTES } from "./kinds";
import type { ObjectWriter } from "./object-writer";
import type { MediaType } from "./schema";
import { checkText, decideKind, HEAD_BYTES } from "./sniff";

/** A 413 that says which limit it was. */
export function tooLarge(type: MediaType | null): AppError {
  const limit = type === null ? LARGEST : MAX_BYTES[type];
  const what =
    type === null ? "A file" : type === "audio" ? "An audio file" : type === "image" ? "An image" : `A ${type}`;
  return new AppError("too_large", `${what} may have at most ${limit} bytes (${limit / 1024 / 1024} MB)`);
}

/** A file on its way in: what it is shows after its first bytes, and from then on its limit holds. */
export class IncomingFile {
  readonly fileName: string | null;
  readonly #declared: string | null;
  readonly #writer: ObjectWriter;
  #head = new Uint8Array(0);
  #kind: FileKind | null = null;

  constructor(writer: ObjectWriter, declared: string | null, fileName: string | null) {
    this.#writer = writer;
    this.#declared = declared;
    this.fileName = fileName;
  }

  /** Takes the next bytes. Throws 413 at the first byte too many, 422 for what is not what it was declared as. */
  async take(bytes: Uint8Array): Promise<void> {
    if (this.#kind !== null) return this.#write(this.#kind, bytes);
    const head = new Uint8Array(this.#head.length + bytes.length);
    head.set(this.#head);
    head.set(bytes, this.#head.length);
    this.#head = head;
    if (head.length >= HEAD_BYTES) await this.#decide();
  }

  /** The file has ended. Answers what it is. */
  async end(): Promise<FileKind> {
    return this.#kind ?? this.#decide();
  }

  async #decide(): Promise<FileKind> {
    const head = this.#head;
    this.#kind = decideKind(head, this.#declared, this.fileName);
    this.#head = new Uint8Array(0);
    await this.#write(this.#kind, head);
    return this.#kind;
  }

  async #write(kind: FileKind, bytes: Uint8Array): Promise<void> {
    if (this.#writer.size + bytes.length > MAX_BYTES[kind.type]) throw tooLarge(kind.type);
    checkText(kind, bytes);
    await this.#writer.write(bytes);
  }
}
