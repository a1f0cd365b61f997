/** SQL of template webhooks, part of the inbound batch. Workspace and id travel inside each JSON row (pipeline 16). */
import { jsonChunks, type Statement, statement } from "../platform/d1";
import type { Template } from "./store";

/** What one webhook batch says of one template; null where it says nothing. */
export interface TemplateChange {
  ws: string;
  /** The provider's id. */
  id: string;
  biz: string | null;
  name: string | null;
  lang: string | null;
  /** A template that is going is not the one about to be made under its name. */
  leaving: boolean;
  status: { at: number; status: Template["status"]; word: string; reason: string | null; note: string | null } | null;
  quality: string | null;
  category: { category: Template["category"]; note: string | null } | null;
  texts: { header: string | null; body: string | null; footer: string | null } | null;
  /** The provider has more to say than the webhook did. */
  ask: boolean;
}

/** Without being told, SQLite walks all templates of the workspace for each row. */
const BY_ID = "INDEXED BY templates_provider";

const MATCH = `t.workspace_id = j.value ->> 'ws' AND t.meta_template_id = j.value ->> 'id'
  AND t.business_id = COALESCE(j.value ->> 'biz', t.business_id) AND t.deleted_at IS NULL`;

/**
 * The statements that bring stored templates up to date. A webhook may be faster than the answer of the call that made
 * the template: then the row has no provider id yet and is found by account, name and language.
 */
export function updateFromWebhooks(changes: readonly TemplateChange[], now: number): Statement[] {
  const each = (rows: readonly object[], sql: string) => jsonChunks(rows).map((json) => statement(sql, json, now));
  const named = changes.filter((c) => c.biz !== null && c.name !== null && c.lang !== null && !c.leaving);
  const of = <T>(pick: (change: TemplateChange) => T | null): ({ ws: string; id: string; biz: string | null } & T)[] =>
    changes.flatMap((change) => {
      const said = pick(change);
      return said === null ? [] : [{ ws: change.ws, id: change.id, biz: change.biz, ...said }];
    });
  return [
    ...each(
      named.map(({ ws, id, biz, name, lang }) => ({ ws, id, biz, name, lang })),
      `UPDATE templates AS t SET meta_template_id = j.value ->> 'id', note = NULL, attempts = 0, updated_at = ?2,
         due_at = CASE WHEN t.claim IS NULL THEN NULL ELSE t.due_at END
       FROM json_each(?1) j WHERE t.workspace_id = j.value ->> 'ws' AND t.business_id = j.value ->> 'biz'
         AND t.name = j.value ->> 'name' AND t.language = j.value ->> 'lang' AND t.deleted_at IS NULL
         AND t.meta_template_id IS NULL AND t.former_template_id IS NOT j.value ->> 'id'`,
    ),
    ...each(
      of(({ status }) => status),
      `UPDATE templates AS t ${BY_ID} SET status = j.value ->> 'status', provider_status = j.value ->> 'word',
         rejection_reason = j.value ->> 'reason', note = j.value ->> 'note', status_at = j.value ->> 'at', updated_at = ?2
       FROM json_each(?1) j WHERE ${MATCH} AND j.value ->> 'at' >= COALESCE(t.status_at, 0)`,
    ),
    ...each(
      of(({ quality }) => (quality === null ? null : { quality })),
      `UPDATE templates AS t ${BY_ID} SET quality_score = j.value ->> 'quality', updated_at = ?2 FROM json_each(?1) j WHERE ${MATCH}`,
    ),
    ...each(
      of(({ category }) => category),
      `UPDATE templates AS t ${BY_ID} SET category = j.value ->> 'category', note = COALESCE(j.value ->> 'note', t.note), updated_at = ?2
       FROM json_each(?1) j WHERE ${MATCH}`,
    ),
    ...each(
      of(({ texts }) => texts),
      `UPDATE templates AS t ${BY_ID} SET updated_at = ?2, components =
         json_patch(t.components, json_object(
           'header', json(CASE WHEN j.value ->> 'header' IS NULL THEN t.components -> 'header'
             ELSE json_patch(COALESCE(t.components -> 'header', '{"format":"TEXT"}'), json_object('text', j.value ->> 'header')) END),
           'body', json(CASE WHEN j.value ->> 'body' IS NULL THEN t.components -> 'body'
             ELSE json_patch(COALESCE(t.components -> 'body', '{}'), json_object('text', j.value ->> 'body')) END),
           'footer', json(CASE WHEN j.value ->> 'footer' IS NULL THEN t.components -> 'footer'
             ELSE json_patch(COALESCE(t.components -> 'footer', '{}'), json_object('text', j.value ->> 'footer')) END)))
       FROM json_each(?1) j WHERE ${MATCH}`,
    ),
    ...each(
      of(({ ask }) => (ask ? {} : null)),
      `UPDATE templates AS t ${BY_ID} SET due_at = ?2, attempts = 0 FROM json_each(?1) j WHERE ${MATCH} AND t.claim IS NULL`,
    ),
  ];
}
