import { z } from "@hono/zod-openapi";
import { enterItem, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { importAccepted, importQuery, importResource, importResult } from "./schema";
import { type ContactImport, type RowResult, receiveImport, rejectedRows } from "./service";
import { selectImport } from "./store";

const itemPath = z.object({ import_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const ITEM = { kind: "workspace", permission: "contacts.manage", item: true } as const;

const start = operation({ kind: "workspace", permission: "contacts.manage" }, [], {
  method: "post",
  path: "/api/contacts/import",
  tags: ["Contacts"],
  summary: "Import contacts from a CSV or Excel (.xlsx) file",
  description:
    "Columns: `phone` (or `phone_number`), `name`, `labels` or `tags` (comma or semicolon separated). Up to 25 MB and 100,000 rows. Rows that name a known number update it: a name or tags that are given replace what was there, empty cells change nothing. Whoever opted out stays out. Up to 5,000 rows are answered at once; of a larger file the rows are applied in the background: `import.progress` events and `GET /api/contacts/imports/{import_id}` show how far it is.",
  request: {
    query: importQuery,
    body: {
      required: true,
      content: {
        // Described, not parsed: the file goes to the bucket as it comes.
        "multipart/form-data": {
          schema: { type: "object", required: ["file"], properties: { file: { type: "string", format: "binary" } } },
        },
      },
    },
  },
  responses: {
    200: { description: "What became of each row", content: json(importResult) },
    202: { description: "Taken; the rows are applied in the background", content: json(importAccepted) },
  },
});

const get = operation(ITEM, [], {
  method: "get",
  path: "/api/contacts/imports/{import_id}",
  tags: ["Contacts"],
  summary: "How far an import is",
  request: { params: itemPath },
  responses: { 200: { description: "The import, kept for 30 days", content: json(importResource) } },
});

const rejected = operation(ITEM, [], {
  method: "get",
  path: "/api/contacts/imports/{import_id}/rejected",
  tags: ["Contacts"],
  summary: "The refused rows of an import as CSV, with the reasons",
  request: { params: itemPath },
  responses: { 200: { description: "The file", content: { "text/csv": { schema: z.string() } } } },
});

function counts(row: ContactImport) {
  return { total_rows: row.totalRows, imported: row.imported, updated: row.updated, failed: row.failed };
}

function statusOf(row: ContactImport): "processing" | "completed" {
  return row.status === "completed" ? "completed" : "processing";
}

function shapeResult(result: RowResult) {
  return {
    row_number: result.rowNumber,
    phone_number: result.phoneNumber,
    status: result.status,
    reason: result.reason,
  };
}

function shape(row: ContactImport): z.input<typeof importResource> {
  return {
    import_id: row.id,
    workspace_id: row.workspaceId,
    status: statusOf(row),
    file_name: row.fileName,
    ...counts(row),
    processed_rows: row.cursor,
    created_at: isoSeconds(row.createdAt),
    updated_at: isoSeconds(row.updatedAt),
    completed_at: isoSecondsOrNull(row.completedAt),
  };
}

export const importRoutes = createRouter()
  .openapi(start, async (c) => {
    const { workspace_id } = c.req.valid("query");
    const scope = await enterWorkspace(c, "contacts.manage", workspace_id);
    const contentType = c.req.header("content-type") ?? "";
    if (!/^multipart\/form-data\b/i.test(contentType)) {
      throw new AppError("unsupported_media_type", "The Content-Type must be multipart/form-data");
    }
    const done = await receiveImport(scope, { body: c.req.raw.body, contentType });
    rememberBookmark(c, scope);
    const row = done.import;
    if (done.results !== null) return c.json({ ...counts(row), results: done.results.map(shapeResult) }, 200);
    return c.json({ ...counts(row), results: [], import_id: row.id, status: statusOf(row) }, 202);
  })
  .openapi(get, async (c) => {
    const { import_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.manage", import_id, (db, ids) =>
      selectImport(db, ids, import_id),
    );
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(rejected, async (c) => {
    const { import_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.manage", import_id, (db, ids) =>
      selectImport(db, ids, import_id),
    );
    return c.body(rejectedRows(scope.rt, item), 200, {
      "Content-Type": "text/csv; charset=utf-8",
      "Content-Disposition": 'attachment; filename="rejected.csv"',
      "X-Content-Type-Options": "nosniff",
    }) as never;
  });
