import { z } from "@hono/zod-openapi";
import { sha256Hex } from "./crypto";
import { type Statement, statement } from "./d1";

/** Keys are kept this long (product 2). */
export const IDEMPOTENCY_TTL = 24 * 3_600_000;

/** The header of every POST that sends or starts something. */
export const idempotencyHeader = z.object({
  "idempotency-key": z.string().min(1).max(255).optional().openapi({
    description: "Kept 24 hours. The same key and body answer the first answer again; another body is a 409.",
  }),
});

/** One call's key: `hash` tells the same request from another one under the same key, `ref` is the row it makes. */
export interface IdempotencyClaim {
  workspaceId: string;
  key: string;
  hash: string;
  ref: string;
}

/** What was asked, in a form that is equal for equal requests whatever the order of their members. */
export function requestHash(operation: string, body: unknown): Promise<string> {
  return sha256Hex(`${operation}\n${JSON.stringify(sorted(body))}`);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]));
}

/** Takes the key unless it is held; an expired one is taken over. First statement of the batch it guards. */
export function claimKey(claim: IdempotencyClaim, now: number): Statement {
  return statement(
    `INSERT INTO idempotency (workspace_id, key, hash, ref, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT (workspace_id, key) DO UPDATE SET hash = excluded.hash, ref = excluded.ref, expires_at = excluded.expires_at
     WHERE idempotency.expires_at <= ?6`,
    claim.workspaceId,
    claim.key,
    claim.hash,
    claim.ref,
    now + IDEMPOTENCY_TTL,
    now,
  );
}

/** Who holds the key now. Last statement of the batch: tells "mine", "the same call again" and "another call". */
export function holderOf(claim: IdempotencyClaim): Statement {
  return statement(
    "SELECT hash, ref FROM idempotency WHERE workspace_id = ?1 AND key = ?2",
    claim.workspaceId,
    claim.key,
  );
}

export const holderRow = z.object({ hash: z.string(), ref: z.string() });
