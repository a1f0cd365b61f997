/** What of a file a `Range` header asks for (RFC 9110, 14). */
export type AskedRange =
  | { kind: "all" }
  | { kind: "part"; offset: number; length: number }
  /** Nothing of the file is in it: 416. */
  | { kind: "outside" };

const SPEC = /^bytes=(\d{0,15})-(\d{0,15})$/;

/**
 * One range of bytes. Another unit, several ranges and what makes no sense count as no range, which is always a right
 * answer. `size` is the file's, in bytes.
 */
export function askedRange(header: string | undefined, size: number): AskedRange {
  const match = SPEC.exec((header ?? "").replace(/\s/g, "").toLowerCase());
  const [first = "", last = ""] = [match?.[1], match?.[2]];
  if (first === "" && last === "") return { kind: "all" };
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? { kind: "outside" } : { kind: "part", offset: size - length, length };
  }
  const offset = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== "" && Number(last) < offset) return { kind: "all" };
  if (offset >= size) return { kind: "outside" };
  return { kind: "part", offset, length: end - offset + 1 };
}

/** Whether a list of entity tags (`If-None-Match`) has this one, or any. Weak tags match: a GET does not care. */
export function hasTag(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((part) => part.trim() === "*" || part.trim().replace(/^W\//, "") === tag);
}
