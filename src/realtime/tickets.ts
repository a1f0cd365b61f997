import { z } from "zod";
import { deriveKey, fromBase64Url, hmacSha256, toBase64Url, utf8, verifyHmacSha256 } from "../platform/crypto";
import type { Runtime } from "../platform/runtime";
import { seatSchema, threadSchema } from "./seat";

/** A ticket opens one socket within this time (pipeline 22). */
export const TICKET_LIFETIME = 30_000;
/** A stream token reads one feed, as often as it likes, for this time (contract 29). */
export const STREAM_TOKEN_LIFETIME = 3_600_000;

/** Times in ms. `kind` keeps the two apart: what one opens the other does not. */
const claimsSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("ticket"),
    id: z.string(),
    seat: seatSchema,
    /** Null opens the workspace's hub. */
    conversation: z.object({ id: z.string(), thread: threadSchema }).nullable(),
    issued_at: z.int(),
    expires_at: z.int(),
  }),
  z.object({
    kind: z.literal("stream"),
    workspace_id: z.string(),
    /** What it stands for. It ends with the session, or when the key is rotated. */
    holder: z.union([
      z.object({ user_id: z.string(), session_id: z.string() }),
      z.object({ key_fingerprint: z.string() }),
    ]),
    expires_at: z.int(),
  }),
]);

type LiveClaims = z.infer<typeof claimsSchema>;
export type TicketClaims = Extract<LiveClaims, { kind: "ticket" }>;
export type StreamClaims = Extract<LiveClaims, { kind: "stream" }>;

/** `<claims>.<signature>`, both base64url. */
export async function signClaims(rt: Runtime, claims: LiveClaims): Promise<string> {
  const payload = toBase64Url(utf8(JSON.stringify(claims)));
  const signature = await hmacSha256(await deriveKey(rt.config.SECRET_KEY, "ticket"), payload);
  return `${payload}.${toBase64Url(signature)}`;
}

/** The claims of what we signed and has not expired, else null. Signatures of the previous master secret are good. */
export async function readClaims(rt: Runtime, text: string): Promise<LiveClaims | null> {
  const [payload = "", signatureText = "", ...rest] = text.split(".");
  const signature = fromBase64Url(signatureText);
  const bytes = fromBase64Url(payload);
  if (!signature || !bytes || rest.length > 0 || !(await isOurs(rt, payload, signature))) return null;
  const claims = claimsSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  return claims.expires_at > rt.clock() ? claims : null;
}

async function isOurs(rt: Runtime, payload: string, signature: Uint8Array<ArrayBuffer>): Promise<boolean> {
  for (const master of [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS]) {
    if (master === undefined) continue;
    if (await verifyHmacSha256(await deriveKey(master, "ticket"), payload, signature)) return true;
  }
  return false;
}
