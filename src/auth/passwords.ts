import { scryptSync, timingSafeEqual } from "node:crypto";
import { fromBase64Url, toBase64Url } from "../platform/crypto";

/**
 * scrypt with N=16384, r=8, p=5: 16 MiB and about 130 ms. workerd caps N·r·p at 2^20, and PBKDF2 at 100,000 iterations
 * in production. The synchronous call holds the isolate, so that one hash runs at a time and memory stays bounded,
 * without a lock that a request could die holding.
 */
const COST = { N: 16_384, r: 8, p: 5 };
const HASH_BYTES = 32;
const SALT_BYTES = 16;

const FORM = /^scrypt\$16384\$8\$5\$([A-Za-z0-9_-]{22})\$([A-Za-z0-9_-]{43})$/;

function derive(password: string, salt: Uint8Array): Uint8Array {
  // The same password typed on another system may arrive in another Unicode form.
  return scryptSync(password.normalize("NFKC"), salt, HASH_BYTES, COST);
}

/** `scrypt$N$r$p$salt$hash`, salt and hash base64url. */
export function hashPassword(password: string): string {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  return `scrypt$${COST.N}$${COST.r}$${COST.p}$${toBase64Url(salt)}$${toBase64Url(derive(password, salt))}`;
}

/**
 * Whether a password is the hashed one. Null stands for no such account or one without a password: it hashes all the
 * same, so that the answer takes as long, and answers false.
 */
export function checkPassword(password: string, stored: string | null): boolean {
  const [, saltText, hashText] = FORM.exec(stored ?? "") ?? [];
  const salt = fromBase64Url(saltText ?? "");
  const expected = fromBase64Url(hashText ?? "");
  const known = salt?.length === SALT_BYTES && expected?.length === HASH_BYTES;
  const actual = derive(password, known ? salt : new Uint8Array(SALT_BYTES));
  return known && timingSafeEqual(actual, expected);
}
