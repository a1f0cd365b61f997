import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { jsonChunks, type Statement, statement } from "../platform/d1";
import type { contactIdentities, contacts } from "./tables";

export type Contact = InferSelectModel<typeof contacts>;
export type IdentityKind = InferSelectModel<typeof contactIdentities>["kind"];

/** Whatever a provider calls somebody, in one workspace. */
export interface Identity {
  workspaceId: string;
  kind: IdentityKind;
  value: string;
}

/** A name that somebody is now known by. `since`: provider time, ms; null: as long as the contact exists. */
export interface OwnedIdentity extends Identity {
  contactId: string;
  since: number | null;
}

const ownerRow = z.object({
  ws: z.string(),
  kind: z.enum(["phone", "wa", "user", "parent", "group", "former"]),
  value: z.string(),
  contact_id: z.string(),
  since: z.number().nullable(),
});

export function toOwner(raw: unknown): OwnedIdentity {
  const row = ownerRow.parse(raw);
  return { workspaceId: row.ws, kind: row.kind, value: row.value, contactId: row.contact_id, since: row.since };
}

/** Who owns which identity now: rows for `toOwner`. */
export function selectOwners(identities: readonly Identity[]): Statement[] {
  return jsonChunks(identities.map((i) => ({ ws: i.workspaceId, k: i.kind, v: i.value }))).map((json) =>
    statement(
      `SELECT i.workspace_id AS ws, i.kind AS kind, i.value AS value, i.contact_id AS contact_id, i.since AS since
       FROM json_each(?1) j CROSS JOIN contact_identities i
       WHERE i.workspace_id = j.value ->> 'ws' AND i.kind = j.value ->> 'k' AND i.value = j.value ->> 'v'`,
      json,
    ),
  );
}

/** Adds identities where nobody owns them yet; of a contact that was merged meanwhile, to the one it became. */
export function insertIdentities(rows: readonly OwnedIdentity[]): Statement[] {
  const json = rows.map((i) => ({ ws: i.workspaceId, k: i.kind, v: i.value, c: i.contactId, s: i.since }));
  return jsonChunks(json).map((chunk) =>
    statement(
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id, since)
       SELECT j.value ->> 'ws', j.value ->> 'k', j.value ->> 'v', COALESCE(c.merged_into, c.id), j.value ->> 's'
       FROM json_each(?1) j CROSS JOIN contacts c WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'c'
       ON CONFLICT DO NOTHING`,
      chunk,
    ),
  );
}
