/**
 * Everything secret is derived from the one master secret `SECRET_KEY` with HKDF, one key per purpose, so that no
 * key serves two purposes and rotating the master rotates all of them.
 */
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export type KeyPurpose =
  | "jwt"
  | "seal"
  | "ticket"
  | "media-url"
  | "connection"
  | "invitation"
  | "email"
  | "cursor"
  | "erasure";

export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text) as Uint8Array<ArrayBuffer>;
}

export function toHex(bytes: ArrayBuffer | Uint8Array): string {
  return [...new Uint8Array(bytes)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** Returns null for anything that is no even number of hex digits, and for nothing. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^([0-9a-f]{2})+$/i.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

export function toBase64Url(bytes: ArrayBuffer | Uint8Array): string {
  let binary = "";
  for (const b of new Uint8Array(bytes)) binary += String.fromCharCode(b);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Returns null for anything that is not base64url. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    return null;
  }
}

/** `prefix` + 256 random bits. */
export function randomToken(prefix: string): string {
  return prefix + toBase64Url(crypto.getRandomValues(new Uint8Array(32)));
}

export async function sha256Hex(text: string | Uint8Array<ArrayBuffer>): Promise<string> {
  return toHex(await crypto.subtle.digest("SHA-256", typeof text === "string" ? utf8(text) : text));
}

/** Constant time for any lengths: digests of both are compared, because the platform's compare throws on unequal lengths. */
export async function safeEqual(a: string, b: string): Promise<boolean> {
  const [x, y] = await Promise.all([
    crypto.subtle.digest("SHA-256", utf8(a)),
    crypto.subtle.digest("SHA-256", utf8(b)),
  ]);
  return crypto.subtle.timingSafeEqual(x, y);
}

const derived = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();

/** 32 bytes for one purpose. Cached per isolate: HKDF costs more than most requests' whole crypto. */
export function deriveKey(master: string, purpose: KeyPurpose): Promise<Uint8Array<ArrayBuffer>> {
  const cacheKey = `${purpose}\n${master}`;
  let bytes = derived.get(cacheKey);
  if (!bytes) {
    bytes = (async () => {
      const base = await crypto.subtle.importKey("raw", utf8(master), "HKDF", false, ["deriveBits"]);
      const params = { name: "HKDF", hash: "SHA-256", salt: utf8("switchboard"), info: utf8(purpose) };
      return new Uint8Array(await crypto.subtle.deriveBits(params, base, 256));
    })();
    derived.set(cacheKey, bytes);
  }
  return bytes;
}

const hmacKeys = new Map<string, Promise<CryptoKey>>();

function hmacKey(secret: string | Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const id = typeof secret === "string" ? `text ${secret}` : `bytes ${toBase64Url(secret)}`;
  let key = hmacKeys.get(id);
  if (!key) {
    if (hmacKeys.size > 1000) hmacKeys.clear();
    const raw = typeof secret === "string" ? utf8(secret) : secret;
    key = crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
    hmacKeys.set(id, key);
  }
  return key;
}

export async function hmacSha256(
  secret: string | Uint8Array<ArrayBuffer>,
  message: string | Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = typeof message === "string" ? utf8(message) : message;
  return new Uint8Array(await crypto.subtle.sign("HMAC", await hmacKey(secret), bytes));
}

/** Constant time (the platform's own verify); false for a signature of the wrong length. */
export async function verifyHmacSha256(
  secret: string | Uint8Array<ArrayBuffer>,
  message: string | Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  const bytes = typeof message === "string" ? utf8(message) : message;
  return crypto.subtle.verify("HMAC", await hmacKey(secret), signature, bytes);
}

/** Where a sealed value stands. Part of the ciphertext's additional data: a value copied to another row does not open. */
export interface SealContext {
  table: string;
  column: string;
  workspaceId: string;
  rowId: string;
}

export interface MasterKeys {
  current: string;
  previous: string | undefined;
}

function additionalData(context: SealContext): Uint8Array<ArrayBuffer> {
  return utf8(JSON.stringify([context.table, context.column, context.workspaceId, context.rowId]));
}

async function sealKey(master: string): Promise<{ id: string; key: CryptoKey }> {
  const bytes = await deriveKey(master, "seal");
  const id = (await sha256Hex(bytes)).slice(0, 8);
  return { id, key: await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]) };
}

/** AES-256-GCM; answers `v1.<key id>.<iv>.<ciphertext>`. */
export async function seal(keys: MasterKeys, context: SealContext, plain: string): Promise<string> {
  const { id, key } = await sealKey(keys.current);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const cipher = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv, additionalData: additionalData(context) },
    key,
    utf8(plain),
  );
  return `v1.${id}.${toBase64Url(iv)}.${toBase64Url(cipher)}`;
}

/** Opens what `seal` made, with the current or the previous master secret. Throws when it was altered or moved. */
export async function open(keys: MasterKeys, context: SealContext, sealed: string): Promise<string> {
  const [version, id, ivText, cipherText] = sealed.split(".");
  const iv = fromBase64Url(ivText ?? "");
  const cipher = fromBase64Url(cipherText ?? "");
  if (version !== "v1" || !iv || !cipher) throw new Error("A sealed value has an unknown form");
  for (const master of [keys.current, keys.previous]) {
    if (master === undefined) continue;
    const candidate = await sealKey(master);
    if (candidate.id !== id) continue;
    const plain = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv, additionalData: additionalData(context) },
      candidate.key,
      cipher,
    );
    return decoder.decode(plain);
  }
  throw new Error("A sealed value was made with a secret that is not configured any more");
}
