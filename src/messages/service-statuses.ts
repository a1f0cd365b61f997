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

/** All statuses of one message in a batch: how far it came, the earliest time of each, and the failure if one was told. */
export interface FoldedStatus {
  ws: string;
  num: string;
  /** Our id, when the provider echoed it. */
  id: string | null;
  wa: string;
  /** The furthest of the positive ones. */
  status: "sent" | "delivered" | "read" | null;
  sent: number | null;
  delivered: number | null;
  read: number | null;
  failed: number | null;
  /** The attempt that failed: a failure counts only for the current one. Null: it was not told, so it counts. */
  attempt: number | null;
  error: string | null;
  pricing: string | null;
}

const CALLBACK = /^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\.(\d{1,6})$/;
const STRENGTH = { sent: 1, delivered: 2, read: 3 };

/** Folds reports per message. A positive status counts for any attempt, of several failures the last attempt's. */
export function foldStatuses(reports: readonly StatusReport[]): FoldedStatus[] {
  const folded = new Map<string, FoldedStatus>();
  for (const report of reports) {
    const { workspaceId: ws, phoneNumberId: num, waMessageId: wa, status, at } = report;
    const match = CALLBACK.exec(report.callbackId ?? "");
    const id = match?.[1] ?? null;
    const attempt = match?.[2] === undefined ? null : Number(match[2]);
    const key = `${ws} ${num} ${id ?? wa}`;
    const one = folded.get(key) ?? { ...NOTHING, ws, num, id, wa };
    folded.set(key, one);
    if (report.pricing) one.pricing = JSON.stringify(report.pricing);
    if (status === "failed") {
      const later = one.failed === null || (attempt ?? 0) > (one.attempt ?? 0);
      if (!later && attempt !== one.attempt) continue;
      if (later && one.status === null) one.wa = wa;
      one.failed = later ? at : Math.min(one.failed ?? at, at);
      one.attempt = attempt;
      one.error = (report.error && JSON.stringify(report.error)) ?? (later ? null : one.error);
      continue;
    }
    // The provider's id of the attempt that went through.
    if (one.status === null) one.wa = wa;
    if (one.status === null || STRENGTH[status] > STRENGTH[one.status]) one.status = status;
    one[status] = Math.min(one[status] ?? at, at);
  }
  return [...folded.values()];
}

const NOTHING = {
  status: null,
  sent: null,
  delivered: null,
  read: null,
  failed: null,
  attempt: null,
  error: null,
  pricing: null,
};

/** A real failure: `sent` does not revive it. */
const REAL_FAILURE = `(m.status = 'failed' AND COALESCE(m.error ->> 'code', '') <> '${OUTCOME_UNKNOWN}')`;
const SAYS = "j.value ->> 'status'";
const FAILS =
  "(j.value ->> 'failed' IS NOT NULL AND (j.value ->> 'attempt' IS NULL OR j.value ->> 'attempt' = m.attempts OR j.value ->> 'wa' = m.wa_message_id))";
/** sent < delivered < read; delivered and read override any failure, a failure overrides neither. */
const NEXT_STATUS = `CASE
  WHEN ${SAYS} = 'read' OR (${SAYS} = 'delivered' AND m.status <> 'read') THEN ${SAYS}
  WHEN m.status IN ('delivered', 'read') OR ${REAL_FAILURE} THEN m.status
  WHEN ${FAILS} THEN 'failed'
  WHEN ${SAYS} = 'sent' THEN 'sent'
  ELSE m.status END`;
/** A failure that is new to the message: its reason is better than that nobody knew. */
const NEW_FAILURE = `(${NEXT_STATUS} = 'failed' AND NOT ${REAL_FAILURE})`;
/**
 * The earliest of what is stored and what is told. A status that was skipped, as Meta skips `delivered` where `read`
 * comes, has at the latest the time of the next one.
 */
const earliest = (column: string, ...told: string[]) => {
  const times = [`m.${column}`, ...told.map((name) => `j.value ->> '${name}'`)];
  const all = times.map((time) => `COALESCE(${time}, ${FOREVER})`).join(", ");
  return `NULLIF(MIN(${all}), ${FOREVER})`;
};
const FOREVER = Number.MAX_SAFE_INTEGER;
const SENT_AT = earliest("sent_at", "sent", "delivered", "read");
const DELIVERED_AT = earliest("delivered_at", "delivered", "read");
const READ_AT = earliest("read_at", "read");
const SET = `status = ${NEXT_STATUS}, sent_at = ${SENT_AT}, delivered_at = ${DELIVERED_AT}, read_at = ${READ_AT},
  pricing = COALESCE(m.pricing, j.value ->> 'pricing'),
  failed_at = CASE WHEN ${NEW_FAILURE} THEN j.value ->> 'failed' WHEN ${NEXT_STATUS} = 'failed' THEN m.failed_at END,
  error = CASE WHEN ${NEW_FAILURE} THEN j.value ->> 'error' WHEN ${NEXT_STATUS} = 'failed' THEN m.error END`;
/**
 * `sent` of a message that is sent: what it adds, the provider's own second and the price, comes again with `delivered`
 * or `read` (facts 1.12), and nothing is charged before. A row for it would cost a dollar in every million messages.
 */
const TELLS_LATER = `(m.status = 'sent' AND COALESCE(${SAYS}, '') = 'sent')`;
/** Whether anything would change: a status that came before costs no write. */
const CHANGES = `(${NEXT_STATUS} <> m.status OR ${NEW_FAILURE} OR (NOT ${TELLS_LATER} AND (m.sent_at IS NOT ${SENT_AT}
  OR m.delivered_at IS NOT ${DELIVERED_AT} OR m.read_at IS NOT ${READ_AT} OR (m.pricing IS NULL AND j.value ->> 'pricing' IS NOT NULL))))`;
/** A row still open or ambiguous when its status comes (the send result is not stored yet): nobody may send it again. */
const SETTLED = `${NEXT_STATUS} NOT IN ('queued', 'sending', 'scheduled')`;

const RETURNED = MESSAGE_COLUMNS.replaceAll("m.", "");
const OF_ID = `m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.phone_number_id = j.value ->> 'num' AND m.direction = 'outbound'`;
const OF_WA = `m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws' AND m.direction = 'outbound'`;
/** The callback id is none of this number's messages: then the provider's id decides. */
const NO_SUCH_ID = `(j.value ->> 'id' IS NULL OR NOT EXISTS (SELECT 1 FROM messages k WHERE k.workspace_id = j.value ->> 'ws' AND k.id = j.value ->> 'id'
  AND k.phone_number_id = j.value ->> 'num'))`;

/**
 * The statements that apply folded statuses: by our id, by the provider's id, then what only concerns rows whose send
 * result is not stored yet. Those in `changed` return the messages that changed.
 */
export function statusStatements(folded: readonly FoldedStatus[]): { changed: Statement[]; after: Statement[] } {
  const byId = jsonChunks(folded.filter((f) => f.id !== null));
  const all = jsonChunks(folded);
  return {
    changed: [
      // Rows that wait or whose fate is unknown leave their partial indexes; the others do not touch those columns.
      ...byId.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET}, open = NULL, ambiguous_at = NULL, lease_until = NULL, claim = NULL FROM json_each(?1) j
           WHERE ${OF_ID} AND (m.open = 1 OR m.ambiguous_at IS NOT NULL) AND ${SETTLED} AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
      ...byId.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET} FROM json_each(?1) j WHERE ${OF_ID} AND m.open IS NULL AND m.ambiguous_at IS NULL AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
      ...all.map((json) =>
        statement(
          `UPDATE messages AS m SET ${SET} FROM json_each(?1) j WHERE ${NO_SUCH_ID} AND ${OF_WA} AND ${CHANGES} RETURNING ${RETURNED}`,
          json,
        ),
      ),
    ],
    after: [
      ...byId.map((json) =>
        statement(
          `UPDATE OR IGNORE messages AS m SET wa_message_id = j.value ->> 'wa' FROM json_each(?1) j
           WHERE ${OF_ID} AND m.wa_message_id IS NULL AND (${SAYS} IS NOT NULL OR ${FAILS})`,
          json,
        ),
      ),
      ...all.map((json) => statement(KEEP_WAITING, json)),
    ],
  };
}

const TIME = "COALESCE(j.value ->> 'read', j.value ->> 'delivered', j.value ->> 'failed', j.value ->> 'sent')";
const RANK = (payload: string) =>
  `CASE ${payload} ->> 'status' WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 WHEN 'sent' THEN 1 ELSE 0 END`;
/** What was told before and what it lacks, with the further one of the statuses. */
const JOINED = `json_patch(json_patch(message_events.payload, json_patch(excluded.payload, message_events.payload)),
  CASE WHEN ${RANK("excluded.payload")} > ${RANK("message_events.payload")} THEN json_object('status', excluded.payload ->> 'status') ELSE '{}' END)`;

/** Statuses of a message sent elsewhere, whose echo may come later, wait for it (pipeline 14). */
const KEEP_WAITING = `INSERT INTO message_events (phone_number_id, target, kind, actor, workspace_id, at, payload)
  SELECT j.value ->> 'num', j.value ->> 'wa', 'status', '', j.value ->> 'ws', ${TIME}, json_patch('{}', j.value) FROM json_each(?1) j
  WHERE ${NO_SUCH_ID} AND NOT EXISTS (SELECT 1 FROM messages o WHERE o.phone_number_id = j.value ->> 'num' AND o.wa_message_id = j.value ->> 'wa'
    AND o.direction = 'outbound')
  ON CONFLICT (phone_number_id, target, kind, actor) DO UPDATE SET at = MAX(message_events.at, excluded.at), payload = ${JOINED}
  WHERE ${JOINED} <> message_events.payload`;

/** Gives messages just stored (echoes, history) the statuses that came before them; `ids` are `{ws, id}` rows. */
export function applyWaitingStatuses(ids: readonly { ws: string; id: string }[]): Statement {
  return statement(
    `WITH w AS MATERIALIZED (SELECT o.workspace_id AS ws, o.id AS id, e.payload AS value FROM json_each(?1) k CROSS JOIN messages o CROSS JOIN message_events e
       WHERE o.workspace_id = k.value ->> 'ws' AND o.id = k.value ->> 'id' AND e.phone_number_id = o.phone_number_id
         AND e.target = o.wa_message_id AND e.kind = 'status' AND e.actor = '')
     UPDATE messages AS m SET ${SET} FROM w AS j WHERE m.workspace_id = j.ws AND m.id = j.id AND ${CHANGES}`,
    JSON.stringify(ids),
  );
}
