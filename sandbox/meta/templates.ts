import { numericId } from "../random";
import type { Outbox } from "../state/outbox";
import type { SettingsStore } from "../state/settings";
import type { Clock, Storage } from "../state/storage";
import { GraphError, noSuchObject } from "./graph-error";
import { fieldNames } from "./numbers";
import { parseEdit, parseTemplate, type TemplateDraft } from "./template-rules";

interface TemplateRow extends Record<string, SqlStorageValue> {
  id: string;
  waba_id: string;
  name: string;
  language: string;
  status: string;
  reason: string | null;
  draft: string;
  review_at: number | null;
  approved_once: number;
}

export interface Template {
  id: string;
  wabaId: string;
  status: string;
  reason: string | null;
  approvedOnce: boolean;
  draft: TemplateDraft;
}

/** A template whose name holds this word is rejected by the automatic review. */
const REJECTED_WORD = "reject";
const MAX_TEMPLATES = 250;
const NAME_BLOCKED_MS = 30 * 24 * 3_600_000;
const SHOWN_FIELDS = [
  "id",
  "name",
  "language",
  "status",
  "category",
  "components",
  "parameter_format",
  "rejected_reason",
  "quality_score",
];

export class Templates {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly outbox: Outbox;
  private readonly onDue: (due: number) => void;

  constructor(storage: Storage, clock: Clock, settings: SettingsStore, outbox: Outbox, onDue: (due: number) => void) {
    this.storage = storage;
    this.clock = clock;
    this.settings = settings;
    this.outbox = outbox;
    this.onDue = onDue;
  }

  create(wabaId: string, params: Record<string, unknown>): unknown {
    const draft = parseTemplate(params);
    const now = this.clock();
    if (this.find(wabaId, draft.name, draft.language)) {
      throw duplicate(
        2388024,
        "Content in this language already exists",
        `There is already ${draft.language} content for this template.`,
      );
    }
    const blocked = this.storage.sql.exec(
      "SELECT 1 FROM templates WHERE waba_id = ? AND name = ? AND language = ? AND approved_once = 1 AND deleted_at > ?",
      wabaId,
      draft.name,
      draft.language,
      now - NAME_BLOCKED_MS,
    );
    if (!blocked.next().done) {
      throw duplicate(
        2388023,
        "Message template language is being deleted",
        "The name of a deleted template is free again after 30 days.",
      );
    }
    const held = this.storage.sql
      .exec<{ n: number }>("SELECT count(*) AS n FROM templates WHERE waba_id = ? AND deleted_at IS NULL", wabaId)
      .one().n;
    if (held >= MAX_TEMPLATES)
      throw duplicate(2388019, "Template limit reached", `An account holds ${MAX_TEMPLATES} templates at most.`);
    const id = numericId(16);
    this.storage.sql.exec(
      "INSERT INTO templates (id, waba_id, name, language, status, draft, review_at, created_at) VALUES (?, ?, ?, ?, 'PENDING', ?, ?, ?)",
      id,
      wabaId,
      draft.name,
      draft.language,
      JSON.stringify(draft),
      this.reviewAt(now),
      now,
    );
    return { id, status: "PENDING", category: draft.category };
  }

  edit(id: string, params: Record<string, unknown>): unknown {
    const template = this.get(id);
    if (!template) throw noSuchObject(id, "post");
    const draft = parseEdit(template.draft, params);
    this.storage.sql.exec(
      "UPDATE templates SET draft = ?, status = 'PENDING', reason = NULL, review_at = ? WHERE id = ?",
      JSON.stringify(draft),
      this.reviewAt(this.clock()),
      id,
    );
    return { success: true, id, name: draft.name, category: draft.category };
  }

  /** Without `hsm_id` every language of the name goes. Throws for a name (or id) the account does not have. */
  remove(wabaId: string, query: Record<string, unknown>): unknown {
    const { name, hsm_id: id, hsm_ids: ids } = query;
    const chosen = typeof ids === "string" ? idList(ids) : null;
    if (typeof name !== "string" && chosen === null) {
      throw new GraphError(100, { message: "(#100) The parameter name is required." });
    }
    const removed = this.storage.sql.exec(
      `UPDATE templates SET deleted_at = ?1, status = 'DELETED' WHERE waba_id = ?2 AND deleted_at IS NULL
         AND (?3 IS NULL OR name = ?3) AND (?4 IS NULL OR id = ?4) AND (?5 IS NULL OR id IN (SELECT value FROM json_each(?5)))`,
      this.clock(),
      wabaId,
      typeof name === "string" ? name : null,
      typeof id === "string" ? id : null,
      chosen === null ? null : JSON.stringify(chosen),
    ).rowsWritten;
    if (removed === 0) {
      throw new GraphError(100, {
        message: "Invalid parameter",
        subcode: 2593002,
        userTitle: "Message Template Not Found",
        userMessage: "The template does not exist or was deleted.",
      });
    }
    return { success: true };
  }

  /** One page of an account's templates, with the cursors of the Graph API. */
  page(wabaId: string, query: Record<string, unknown>): unknown {
    const limit = Math.min(Math.max(Number(query.limit ?? 25) || 25, 1), 1_000);
    const after = typeof query.after === "string" ? atobOrEmpty(query.after) : "";
    const rows = [
      ...this.storage.sql.exec<TemplateRow>(
        `SELECT * FROM templates WHERE waba_id = ?1 AND deleted_at IS NULL AND id > ?2
           AND (?3 IS NULL OR name = ?3) AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR language = ?5) ORDER BY id LIMIT ?6`,
        wabaId,
        after,
        typeof query.name === "string" ? query.name : null,
        typeof query.status === "string" ? query.status.toUpperCase() : null,
        typeof query.language === "string" ? query.language : null,
        limit + 1,
      ),
    ];
    const shown = rows.slice(0, limit).map(readRow);
    const fields = typeof query.fields === "string" ? query.fields : null;
    const first = shown[0];
    const last = shown.at(-1);
    return {
      data: shown.map((template) => show(template, fields)),
      ...(first && last
        ? {
            paging: {
              cursors: { before: btoa(first.id), after: btoa(last.id) },
              ...(rows.length > limit
                ? { next: `https://graph.facebook.com/${wabaId}/message_templates?after=${btoa(last.id)}` }
                : {}),
            },
          }
        : {}),
    };
  }

  show(id: string, fields: string | null): unknown {
    const template = this.get(id);
    if (!template) throw noSuchObject(id);
    return show(template, fields);
  }

  /** Every template of every account, for the control API. */
  all(): Record<string, unknown>[] {
    const rows = this.storage.sql.exec<TemplateRow>(
      "SELECT * FROM templates WHERE deleted_at IS NULL ORDER BY created_at, id",
    );
    return [...rows].map((row) => ({ ...show(readRow(row), null), waba_id: row.waba_id, status: row.status }));
  }

  get(id: string): Template | null {
    const [row] = this.storage.sql.exec<TemplateRow>("SELECT * FROM templates WHERE id = ? AND deleted_at IS NULL", id);
    return row ? readRow(row) : null;
  }

  find(wabaId: string, name: string, language: string): Template | null {
    const [row] = this.storage.sql.exec<TemplateRow>(
      "SELECT * FROM templates WHERE waba_id = ? AND name = ? AND language = ? AND deleted_at IS NULL",
      wabaId,
      name,
      language,
    );
    return row ? readRow(row) : null;
  }

  /** The one that can be sent; throws 132001, 132015 or 132016. */
  sendable(wabaId: string, name: string, language: string): Template {
    const template = this.find(wabaId, name, language);
    if (template?.status === "PAUSED") throw new GraphError(132015);
    if (template?.status === "DISABLED") throw new GraphError(132016);
    if (template?.status !== "APPROVED") {
      throw new GraphError(132001, { details: `template name (${name}) does not exist in ${language}` });
    }
    return template;
  }

  /** Sets a template's status and tells the app, as a review (or a later pause) does. */
  review(id: string, status: string, reason: string | null): Template {
    const template = this.get(id);
    if (!template) throw noSuchObject(id);
    const why = status === "REJECTED" ? (reason ?? "INVALID_FORMAT") : reason;
    this.storage.sql.exec(
      "UPDATE templates SET status = ?1, reason = ?2, review_at = NULL, approved_once = max(approved_once, ?1 = 'APPROVED') WHERE id = ?3",
      status,
      why,
      id,
    );
    this.outbox.add(
      {
        wabaId: template.wabaId,
        phoneId: null,
        field: "message_template_status_update",
        list: null,
        item: {
          event: status,
          message_template_id: Number(id),
          message_template_name: template.draft.name,
          message_template_language: template.draft.language,
          message_template_category: template.draft.category,
          reason: why ?? "NONE",
        },
        contacts: null,
      },
      0,
    );
    return { ...template, status, reason: why };
  }

  /** The automatic review of development: everything whose time has come. */
  reviewDue(now: number): void {
    const rows = this.storage.sql.exec<TemplateRow>(
      "SELECT * FROM templates WHERE review_at <= ? AND deleted_at IS NULL AND status = 'PENDING'",
      now,
    );
    for (const row of [...rows]) {
      const rejected = row.name.includes(REJECTED_WORD);
      this.review(row.id, rejected ? "REJECTED" : "APPROVED", rejected ? "TAG_CONTENT_MISMATCH" : null);
    }
  }

  nextReview(): number | null {
    return this.storage.sql
      .exec<{ due: number | null }>(
        "SELECT min(review_at) AS due FROM templates WHERE review_at IS NOT NULL AND deleted_at IS NULL AND status = 'PENDING'",
      )
      .one().due;
  }

  private reviewAt(now: number): number | null {
    const { auto_review, delays } = this.settings.get();
    if (auto_review === "off") return null;
    this.onDue(now + delays.review);
    return now + delays.review;
  }
}

function readRow(row: TemplateRow): Template {
  return {
    id: row.id,
    wabaId: row.waba_id,
    status: row.status,
    reason: row.reason,
    approvedOnce: row.approved_once === 1,
    draft: JSON.parse(row.draft) as TemplateDraft,
  };
}

function show(template: Template, fields: string | null): Record<string, unknown> {
  const { draft } = template;
  const all: Record<string, unknown> = {
    id: template.id,
    name: draft.name,
    language: draft.language,
    status: template.status,
    category: draft.category,
    components: draft.components,
    parameter_format: draft.parameterFormat,
    quality_score: { score: "UNKNOWN" },
    rejected_reason: template.reason ?? "NONE",
  };
  const names = fields === null ? SHOWN_FIELDS.slice(0, 7) : [...fieldNames(fields), "id"];
  const unknown = names.find((name) => !(name in all));
  if (unknown !== undefined) {
    throw new GraphError(100, {
      message: `(#100) Tried accessing nonexistent field (${unknown}) on node type (MessageTemplate)`,
    });
  }
  return Object.fromEntries(names.map((name) => [name, all[name]]));
}

function duplicate(subcode: number, title: string, message: string): GraphError {
  return new GraphError(100, { message: "Invalid parameter", subcode, userTitle: title, userMessage: message });
}

function idList(text: string): string[] {
  return text.match(/\d+/g) ?? [];
}

function atobOrEmpty(text: string): string {
  try {
    return atob(text);
  } catch {
    return "";
  }
}
