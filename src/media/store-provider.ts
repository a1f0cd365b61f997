/** SQL of what providers call our files. */
import { z } from "zod";
import { type Db, statement } from "../platform/d1";
import { MEDIA_COLUMNS, type Media, toMedia } from "./store";

/** A file as a number is about to send it. */
export interface SentMedia {
  media: Media;
  /** The provider's id, when it has the file already. */
  providerMediaId: string | null;
  /** The id that was kept of an earlier batch: the provider may have lost the file meanwhile. */
  kept: string | null;
}

/** The files that messages of these numbers name, with the ids their providers know them by, in one round trip. */
export async function selectForSending(
  db: Db,
  wanted: readonly { workspaceId: string; phoneNumberId: string; mediaId: string }[],
  now: number,
): Promise<Map<string, SentMedia>> {
  const rows = await db.all(
    `SELECT ${MEDIA_COLUMNS}, j.value ->> 'num' AS asked_number, p.provider_media_id AS known_as
     FROM json_each(?1) j CROSS JOIN media m LEFT JOIN media_provider_ids p
       ON p.workspace_id = m.workspace_id AND p.phone_number_id = j.value ->> 'num' AND p.sha256 = m.sha256
       AND p.mime_type = m.mime_type AND p.expires_at > ?2
     WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'ready' AND m.deleted_at IS NULL`,
    JSON.stringify(wanted.map((w) => ({ ws: w.workspaceId, num: w.phoneNumberId, id: w.mediaId }))),
    now,
  );
  const asked = z.object({ asked_number: z.string(), known_as: z.string().nullable() });
  return new Map(
    rows.map((row) => {
      const { asked_number, known_as } = asked.parse(row);
      const media = toMedia(row);
      return [`${asked_number} ${media.id}`, { media, providerMediaId: known_as, kept: known_as }];
    }),
  );
}

/** Keeps what a provider called a file; a newer upload replaces an older one. */
export async function upsertProviderId(
  db: Db,
  known: {
    workspaceId: string;
    phoneNumberId: string;
    sha256: string;
    mimeType: string;
    providerMediaId: string;
    expiresAt: number;
  },
): Promise<void> {
  await db.batch([
    statement(
      `INSERT INTO media_provider_ids (workspace_id, phone_number_id, sha256, mime_type, provider_media_id, expires_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET provider_media_id = excluded.provider_media_id, expires_at = excluded.expires_at`,
      known.workspaceId,
      known.phoneNumberId,
      known.sha256,
      known.mimeType,
      known.providerMediaId,
      known.expiresAt,
    ),
  ]);
}

/** What a provider is to be asked for no more: its ids of files, by our number. Newer ones of the same files stay. */
export async function deleteProviderIds(
  db: Db,
  known: readonly { workspaceId: string; phoneNumberId: string; sha256: string; mimeType: string; id: string }[],
): Promise<void> {
  await db.run(
    `DELETE FROM media_provider_ids WHERE (workspace_id, phone_number_id, sha256, mime_type, provider_media_id) IN
       (SELECT j.value ->> 'ws', j.value ->> 'num', j.value ->> 'sha', j.value ->> 'mime', j.value ->> 'pid' FROM json_each(?1) j)`,
    JSON.stringify(
      known.map((one) => ({
        ws: one.workspaceId,
        num: one.phoneNumberId,
        sha: one.sha256,
        mime: one.mimeType,
        pid: one.id,
      })),
    ),
  );
}

/** Ids the providers have forgotten; walked, because an index would cost a row per id. Returns how many went. */
export function deleteExpiredProviderIds(db: Db, now: number, limit: number): Promise<number> {
  return db.run(
    `DELETE FROM media_provider_ids WHERE (workspace_id, phone_number_id, sha256, mime_type) IN
       (SELECT workspace_id, phone_number_id, sha256, mime_type FROM media_provider_ids WHERE expires_at <= ?1 LIMIT ${limit})`,
    now,
  );
}
