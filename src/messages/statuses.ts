/** Statuses folded in code and applied in sets (pipeline 12). */
import { jsonChunks, type Statement, statement } from "../platform/d1";
import type { ProviderError, StatusName } from "../providers/provider";
import { OUTCOME_UNKNOWN } from "./rank";
import { MESSAGE_COLUMNS } from "./store";

/** One status of one message as a webhook told it. */
export interface StatusReport {
  workspaceId: string;
  phoneNumberId: string;
  waMessageId: string;
  /** `<message id>.<attempt>` when it is one of ours. */
  callbackId: string | null;
  status: StatusName;
  at: number;
  error: ProviderError | null;
  pricing: Record<string, unknown> | null;
}

/** All statuses of one message in a batch: the furthest, and the earliest time of each. */
export interface FoldedStatus {
  ws: string;
  num: string;
  /** Our id, when the provider echoed it; then `attempt` is the attempt it belongs to. */
  id: string | null;
  attempt: number | null;
  wa: string;
  /** delivered and read override any failure, a failure overrides sent. */
  status: StatusName;
  sent: number | null;
  delivered: number | null;
  read: number | null;
  failed: number | null;
  error: string | null;
  pricing: string | null;
}

const CALLBACK = /^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\.(\d{1,6})$/;
const STRENGTH: Record<StatusName, number> = { sent: 1, failed: 2, delivered: 3, read: 4 };

/**
 * Folds reports per message. Statuses of one message may name different attempts; positive ones count for any, so the
 * attempt kept is that of the failure, if there is one.
 */
export function foldStatuses(reports: readonly StatusReport[]): FoldedStatus[] {
  const folded = new Map<string, FoldedStatus>();
  for (const report of reports) {
    const match = CALLBACK.exec(report.callbackId ?? "");
    const id = match?.[1] ?? null;
    const attempt = match?.[2] === undefined ? null : Number(match[2]);
    const key = `${report.workspaceId} ${report.phoneNumberId} ${id ?? report.waMessageId}`;
    const one = folded.get(key) ?? {
      ws: report.workspaceId,
      num: report.phoneNumberId,
      id,
      attempt,
      wa: report.waMessageId,
      status: report.status,
      sent: null,
      delivered: null,
      read: null,
      failed: null,
      error: null,
      pricing: null,
    };
    if (STRENGTH[report.status] > STRENGTH[one.status]) one.status = report.status;
    one[report.status] = Math.min(one[report.status] ?? report.at, report.at);
    if (report.status === "failed") {
      one.error = report.error && JSON.stringify(report.error);
      one.attempt = attempt;
    }
    if (report.pricing) one.pricing = JSON.stringify(report.pricing);
    folded.set(key, one);
  }
  return [...folded.values()];
}

const RANK = (column: string) =>
  `CASE ${column} WHEN 'read' THEN 4 WHEN 'delivered' THEN 3 WHEN 'failed' THEN 2 WHEN 'sent' THEN 1 ELSE 0 END`;
/** A real failure: `sent` does not revive it. */
const REAL_FAILURE = `(m.status = 'failed' AND COALESCE(m.error ->> 'code', '') <> '${OUTCOME_UNKNOWN}')`;
const NEXT_STATUS = `CASE
  WHEN j.value ->> 'status' IN ('delivered', 'read') AND (m.status NOT IN ('delivered', 'read') OR (j.value ->> 'status' = 'read' AND m.status = 'delivered'))
    THEN j.value ->> 'status'
  WHEN j.value ->> 'status' = 'sent' AND m.status NOT IN ('sent', 'delivered', 'read') AND NOT ${REAL_FAILURE} THEN 'sent'
  WHEN j.value ->> 'status' = 'failed' AND m.status NOT IN ('delivered', 'read', 'failed')
    AND (j.value ->> 'attempt' IS NULL OR j.value ->> 'attempt' = m.attempts) THEN 'failed'
  WHEN j.value ->> 'status' = 'failed' AND j.value ->> 'sent' IS NOT NULL AND m.status IN ('queued', 'sending') THEN 'sent'
  ELSE m.status END`;
const SET = `status = ${NEXT_STATUS},
  sent_at = COALESCE(m.sent_at, j.value ->> 'sent'), delivered_at = COALESCE(m.delivered_at, j.value ->> 'delivered'),
  read_at = COALESCE(m.read_at, j.value ->> 'read'), pricing = COALESCE(j.value ->> 'pricing', m.pricing),
  failed_at = CASE WHEN ${NEXT_STATUS} = 'failed' THEN COALESCE(m.failed_at, j.value ->> 'failed') ELSE NULL END,
  error = CASE WHEN ${NEXT_STATUS} = 'failed' THEN CASE WHEN m.status = 'failed' THEN m.error ELSE COALESCE(j.value ->> 'error', m.error) END ELSE NULL END`;
/** Whether anything would change: a status that came before costs no write. */
const CHANGES = `(${NEXT_STATUS} <> m.status OR (m.sent_at IS NULL AND j.value ->> 'sent' IS NOT NULL)
  OR (m.delivered_at IS NULL AND j.value ->> 'delivered' IS NOT NULL) OR (m.read_at IS NULL AND j.value ->> 'read' IS NOT NULL)
  OR (m.pricing IS NULL AND j.value ->> 'pricing' IS NOT NULL))`;
/** A row still open or ambiguous when its status comes (the send result is not stored yet): nobody may send it again. */
const SETTLED = `${NEXT_STATUS} NOT IN ('queued', 'sending', 'scheduled')`;

const RETURNED = MESSAGE_COLUMNS.replaceAll("m.", "");

/**
 * The statements that apply folded statuses: by our id, by the provider's id, then what only concerns rows whose send
 * result is not stored yet. The first two return the messages that changed.
 */
export function statusStatements(folded: readonly FoldedStatus[]): { changed: Statement[]; after: Statement[] } {
  const byId = jsonChunks(folded.filter((f) => f.id !== null));
  const byWa = jsonChunks(folded.filter((f) => f.id === null));
  const ofId =
    "m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.phone_number_id = j.value ->> 'num' AND m.direction = 'outbound'";
  const ofWa =
    "m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws' AND m.direction = 'outbound'";
  return {
    changed: [
      // Rows that wait or whose fate is unknown leave their partial indexes; the others do not touch those columns.
      ...byId.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET}, open = NULL, ambiguous_at = NULL, lease_until = NULL, claim = NULL FROM json_each(?1) j
           WHERE ${ofId} AND (m.open = 1 OR m.ambiguous_at IS NOT NULL) AND ${SETTLED} AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
      ...byId.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET} FROM json_each(?1) j WHERE ${ofId} AND m.open IS NULL AND m.ambiguous_at IS NULL AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
      ...byWa.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET} FROM json_each(?1) j WHERE ${ofWa} AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
    ],
    after: [
      ...byId.map((json) =>
        statement(
          `UPDATE OR IGNORE messages AS m SET wa_message_id = j.value ->> 'wa' FROM json_each(?1) j WHERE ${ofId} AND m.wa_message_id IS NULL`,
          json,
        ),
      ),
      // A message sent elsewhere, whose echo may come later (pipeline 14).
      ...byWa.map((json) =>
        statement(
          `INSERT INTO message_events (phone_number_id, target, kind, actor, workspace_id, at, payload)
           SELECT j.value ->> 'num', j.value ->> 'wa', 'status', '', j.value ->> 'ws',
             COALESCE(j.value ->> 'read', j.value ->> 'delivered', j.value ->> 'failed', j.value ->> 'sent'), j.value FROM json_each(?1) j
           WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa')
           ON CONFLICT (phone_number_id, target, kind, actor) DO UPDATE SET at = excluded.at, payload = excluded.payload
           WHERE ${RANK("excluded.payload ->> 'status'")} > ${RANK("message_events.payload ->> 'status'")}`,
          json,
        ),
      ),
    ],
  };
}

/** Gives messages just stored (echoes, history) the statuses that came before them; `ids` are `{ws, id}` rows. */
export function applyWaitingStatuses(ids: readonly { ws: string; id: string }[]): Statement {
  return statement(
    `UPDATE messages AS m SET status = e.payload ->> 'status', sent_at = COALESCE(m.sent_at, e.payload ->> 'sent'),
       delivered_at = COALESCE(m.delivered_at, e.payload ->> 'delivered'), read_at = COALESCE(m.read_at, e.payload ->> 'read'),
       failed_at = e.payload ->> 'failed', error = e.payload ->> 'error', pricing = e.payload ->> 'pricing'
     FROM json_each(?1) j CROSS JOIN messages o CROSS JOIN message_events e
     WHERE o.workspace_id = j.value ->> 'ws' AND o.id = j.value ->> 'id' AND e.phone_number_id = o.phone_number_id
       AND e.target = o.wa_message_id AND e.kind = 'status' AND e.actor = ''
       AND m.workspace_id = o.workspace_id AND m.id = o.id
       AND ${RANK("e.payload ->> 'status'")} > ${RANK("m.status")}`,
    JSON.stringify(ids),
  );
}
