/** SQL of erasing a person: the beginning, how far it is, and what is left in lists. Every statement may run twice. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Param, type Statement, statement } from "../platform/d1";
import { contactErasures } from "./tables";

export type Erasure = InferSelectModel<typeof contactErasures>;

const COLUMNS = columnsOf(contactErasures, "x");
const RETURNED = COLUMNS.replaceAll("x.", "");

/** What an erased message, and one that was never sent because of it, is told. */
export const ERASED_ERROR = JSON.stringify({
  code: "contact_erased",
  title: "The contact was erased",
  details: null,
  retryable: false,
});

/** Who can be erased: anybody with a row, deleted or not (of a merged contact, who it is now), and who was before. */
export interface Erasable {
  workspaceId: string;
  contactId: string;
}

const erasableRow = z.object({ ws: z.string(), id: z.string() });

export async function selectErasable(db: Db, workspaceIds: string[], id: string): Promise<Erasable | null> {
  const row = await db.first(
    `SELECT c.workspace_id AS ws, COALESCE(c.merged_into, c.id) AS id FROM json_each(?1) j CROSS JOIN contacts c
     WHERE c.workspace_id = j.value AND c.id = ?2
     UNION ALL SELECT x.workspace_id, x.id FROM json_each(?1) j CROSS JOIN contact_erasures x WHERE x.workspace_id = j.value AND x.id = ?2
     LIMIT 1`,
    JSON.stringify(workspaceIds),
    id,
  );
  if (!row) return null;
  const found = erasableRow.parse(row);
  return { workspaceId: found.ws, contactId: found.id };
}

/** An erasure by its contact's id, in one of these workspaces. */
export async function selectErasure(db: Db, workspaceIds: string[], id: string): Promise<Erasure | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN contact_erasures x WHERE x.workspace_id = j.value AND x.id = ?2`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(contactErasures, row);
}

/** The contact `?2` of workspace `?1` and those merged into it. */
const WHO = `who AS MATERIALIZED (SELECT id FROM contacts WHERE workspace_id = ?1 AND id = ?2
  UNION SELECT id FROM contacts INDEXED BY contacts_merged WHERE workspace_id = ?1 AND merged_into = ?2)`;
const THEIR_THREADS = `who CROSS JOIN conversations v INDEXED BY conversations_pair WHERE v.workspace_id = ?1 AND v.contact_id = who.id`;
/** A number or id that was given up and is nobody else's now. The value is `<kind>:<name>@<15 digits>`. */
const FORMER = "substr(i.value, instr(i.value, ':') + 1, length(i.value) - instr(i.value, ':') - 16)";

/**
 * Takes the person out of every list, in one transaction: contact, names and threads go, what waits to be sent fails,
 * and what is needed to find the rest is noted. Doing it again answers the erasure that there is; null when there is
 * neither contact nor erasure.
 */
export async function beginErasure(
  db: Db,
  erasure: { workspaceId: string; contactId: string; requestedBy: string | null; dueAt: number },
  now: number,
): Promise<Erasure | null> {
  const who = [erasure.workspaceId, erasure.contactId] as const;
  const results = await db.batch([
    statement(
      `WITH ${WHO} INSERT INTO contact_erasures (workspace_id, id, status, look, phase, unsettled, contacts, threads, names, messages, files, events,
         requested_by, created_at, updated_at, due_at)
       SELECT ?1, ?2, 'processing', 1, 'live', 0, (SELECT json_group_array(id) FROM who),
         (SELECT json_group_array(json_object('id', v.id, 'num', v.phone_number_id, 'peer', v.peer)) FROM ${THEIR_THREADS}),
         (SELECT json_group_array(n) FROM (
           SELECT i.value AS n FROM who CROSS JOIN contact_identities i INDEXED BY contact_identities_contact
             WHERE i.workspace_id = ?1 AND i.contact_id = who.id AND i.kind <> 'former'
           UNION SELECT ltrim(k.value, '+') FROM who CROSS JOIN contacts c CROSS JOIN json_each(json_array(c.phone_number, c.wa_id, c.user_id)) k
             WHERE c.workspace_id = ?1 AND c.id = who.id AND k.value IS NOT NULL
           UNION SELECT ${FORMER} FROM who CROSS JOIN contact_identities i INDEXED BY contact_identities_contact
             WHERE i.workspace_id = ?1 AND i.contact_id = who.id AND i.kind = 'former' AND NOT EXISTS (SELECT 1 FROM contact_identities o
               WHERE o.workspace_id = ?1 AND o.kind IN ('phone', 'wa', 'user', 'parent') AND o.value = ${FORMER} AND o.contact_id NOT IN (SELECT id FROM who)))
          WHERE n <> ''),
         0, 0, 0, ?3, ?4, ?4, ?5
       FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ?2 ON CONFLICT (workspace_id, id) DO NOTHING`,
      ...who,
      erasure.requestedBy,
      now,
      erasure.dueAt,
    ),
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ?2
         AND c.deleted_at IS NULL AND c.merged_into IS NULL) WHERE workspace_id = ?1 AND list = 'contacts'`,
      ...who,
    ),
    statement(
      `WITH ${WHO} UPDATE list_totals SET n = n - (SELECT count(*) FROM ${THEIR_THREADS} AND v.merged_into IS NULL)
       WHERE workspace_id = ?1 AND list = 'conversations'`,
      ...who,
    ),
    statement(
      `WITH ${WHO}, waiting AS MATERIALIZED (SELECT m.id AS id FROM who CROSS JOIN conversations v INDEXED BY conversations_pair
         CROSS JOIN messages m INDEXED BY messages_open_queue WHERE v.workspace_id = ?1 AND v.contact_id = who.id
           AND m.workspace_id = ?1 AND m.conversation_id = v.id AND m.open = 1 AND m.status = 'queued')
       UPDATE messages AS m SET status = 'failed', open = NULL, failed_at = ?3, error = ?4 FROM waiting w
       WHERE m.workspace_id = ?1 AND m.id = w.id AND m.status = 'queued'`,
      ...who,
      now,
      ERASED_ERROR,
    ),
    statement(
      `WITH ${WHO} DELETE FROM contact_identities WHERE (workspace_id, kind, value) IN (SELECT i.workspace_id, i.kind, i.value
         FROM who CROSS JOIN contact_identities i INDEXED BY contact_identities_contact WHERE i.workspace_id = ?1 AND i.contact_id = who.id)`,
      ...who,
    ),
    statement(
      `WITH ${WHO} DELETE FROM conversations WHERE workspace_id = ?1 AND id IN (SELECT v.id FROM ${THEIR_THREADS})`,
      ...who,
    ),
    statement(`WITH ${WHO} DELETE FROM contacts WHERE workspace_id = ?1 AND id IN (SELECT id FROM who)`, ...who),
    statement(`SELECT ${COLUMNS} FROM contact_erasures x WHERE x.workspace_id = ?1 AND x.id = ?2`, ...who),
  ]);
  const row = results.at(-1)?.results[0];
  return row ? fromRow(contactErasures, row) : null;
}

/**
 * Threads that a send made for the person while they were being erased: it had read the contact before. They are noted
 * and leave the lists. Answers the erasure with all its threads.
 */
export async function takeLateThreads(db: Db, erasure: Erasure): Promise<Erasure> {
  const of = [erasure.workspaceId, erasure.id, JSON.stringify(erasure.contacts)] as const;
  const late = `json_each(?3) k CROSS JOIN conversations v INDEXED BY conversations_pair WHERE v.workspace_id = ?1 AND v.contact_id = k.value`;
  const results = await db.batch([
    statement(
      `UPDATE contact_erasures SET threads = (SELECT json_group_array(json(t.value)) FROM (SELECT e.value AS value FROM json_each(threads) e
         UNION SELECT json_object('id', v.id, 'num', v.phone_number_id, 'peer', v.peer) FROM ${late}) t)
       WHERE workspace_id = ?1 AND id = ?2 AND EXISTS (SELECT 1 FROM ${late})`,
      ...of,
    ),
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM ${late} AND v.merged_into IS NULL) WHERE workspace_id = ?1 AND list = 'conversations' AND ?2 <> ''`,
      ...of,
    ),
    statement(
      `DELETE FROM conversations WHERE workspace_id = ?1 AND ?2 <> '' AND id IN (SELECT v.id FROM ${late})`,
      ...of,
    ),
    statement(
      `SELECT ${COLUMNS} FROM contact_erasures x WHERE x.workspace_id = ?1 AND x.id = ?2 AND ?3 <> ''`,
      ...of,
    ),
  ]);
  const row = results.at(-1)?.results[0];
  return row ? fromRow(contactErasures, row) : erasure;
}

/** What a step found and removed. */
export interface Counted {
  messages?: number;
  files?: number;
  events?: number;
  unsettled?: number;
}

/** Where an erasure goes on. */
export interface Place {
  look: number;
  phase: Erasure["phase"];
  place: (string | number)[] | null;
}

/**
 * Notes that a step is done, as part of its transaction: only if nobody else noted it, so that two runs at once count
 * nothing twice.
 */
export function moveOn(erasure: Erasure, to: Place, counted: Counted, times: { now: number; dueAt: number }): Statement {
  return statement(
    `UPDATE contact_erasures SET look = ?3, phase = ?4, place = ?5, messages = messages + ?6, files = files + ?7, events = events + ?8,
       unsettled = CASE WHEN ?3 = look THEN unsettled + ?9 ELSE 0 END, updated_at = ?10, due_at = ?11
     WHERE ${STANDS} RETURNING ${RETURNED}`,
    erasure.workspaceId,
    erasure.id,
    to.look,
    to.phase,
    to.place && JSON.stringify(to.place),
    counted.messages ?? 0,
    counted.files ?? 0,
    counted.events ?? 0,
    counted.unsettled ?? 0,
    times.now,
    times.dueAt,
    ...standing(erasure),
  );
}

const STANDS = "workspace_id = ?1 AND id = ?2 AND look = ?12 AND phase = ?13 AND place IS ?14";

function standing({ look, phase, place }: Erasure): Param[] {
  return [look, phase, place && JSON.stringify(place)];
}

/** The row that `moveOn` answered; null when another run was faster. */
export function movedTo(result: D1Result<Record<string, unknown>> | undefined): Erasure | null {
  const row = result?.results[0];
  return row ? fromRow(contactErasures, row) : null;
}

/** Everything of this look is gone: done for who asked. `dueAt` null: and nothing can come any more, so the names go too. */
export async function completeLook(
  db: Db,
  erasure: Erasure,
  times: { now: number; dueAt: number | null },
): Promise<Erasure | null> {
  const row = await db.first(
    `UPDATE contact_erasures SET status = 'completed', completed_at = COALESCE(completed_at, ?3), look = look + 1, phase = 'live', place = NULL,
       unsettled = 0, updated_at = ?3, due_at = ?4, names = CASE WHEN ?4 IS NULL THEN '[]' ELSE names END,
       threads = CASE WHEN ?4 IS NULL THEN '[]' ELSE threads END
     WHERE workspace_id = ?1 AND id = ?2 AND look = ?5 AND phase = ?6 AND place IS ?7 RETURNING ${RETURNED}`,
    erasure.workspaceId,
    erasure.id,
    times.now,
    times.dueAt,
    ...standing(erasure),
  );
  return row && fromRow(contactErasures, row);
}

const dueRow = z.object({ workspace_id: z.string(), id: z.string() });

/** Erasures that stand still, of all workspaces of a shard; each is put off, so that the next run takes others. */
export async function takeDueErasures(db: Db, now: number, dueAt: number, limit: number): Promise<Erasable[]> {
  const rows = await db.all(
    `UPDATE contact_erasures SET due_at = ?2 WHERE (workspace_id, id) IN (SELECT x.workspace_id, x.id FROM contact_erasures x
       WHERE x.due_at IS NOT NULL AND x.due_at <= ?1 ORDER BY x.due_at LIMIT ${limit}) RETURNING workspace_id, id`,
    now,
    dueAt,
  );
  return rows.map((raw) => dueRow.parse(raw)).map(({ workspace_id, id }) => ({ workspaceId: workspace_id, contactId: id }));
}
