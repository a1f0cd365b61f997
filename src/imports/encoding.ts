/** Which encoding a text file is in, found out as its bytes pass by. */

export type Encoding = "utf-8" | "utf-16le" | "utf-16be" | "windows-1252";

/**
 * Takes a file's bytes in order. A byte order mark decides; else zeros among the first bytes say UTF-16, and what is no
 * valid UTF-8 anywhere is Windows-1252, as spreadsheets of Western languages save it.
 */
export class EncodingGuess {
  #head = new Uint8Array(0);
  #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  #valid = true;

  /** The first bytes, up to 8. */
  get head(): Uint8Array {
    return this.#head;
  }

  take(bytes: Uint8Array): void {
    if (this.#head.length < 8)
      this.#head = Uint8Array.from([...this.#head, ...bytes.subarray(0, 8 - this.#head.length)]);
    if (this.#valid) this.#check(bytes, true);
  }

  end(): Encoding {
    if (this.#valid) this.#check(new Uint8Array(0), false);
    const [a, b] = this.#head;
    if (a === 0xff && b === 0xfe) return "utf-16le";
    if (a === 0xfe && b === 0xff) return "utf-16be";
    if (a !== undefined && a !== 0 && b === 0) return "utf-16le";
    if (a === 0 && b !== undefined && b !== 0) return "utf-16be";
    return this.#valid ? "utf-8" : "windows-1252";
  }

  #check(bytes: Uint8Array, stream: boolean): void {
    try {
      this.#utf8.decode(bytes, { stream });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.#valid = false;
    }
  }
}
