import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";

export const importQuery = z.object({ workspace_id: uuidSchema.optional() });

const counts = {
  total_rows: z.int(),
  imported: z.int().openapi({ description: "Rows that made a contact, or brought a deleted one back." }),
  updated: z.int(),
  failed: z.int(),
};

const rowResult = z.object({
  row_number: z.int().openapi({ description: "Counts rows with data from 1, below the header." }),
  phone_number: z.string().openapi({ description: "The cell as it was." }),
  status: z.enum(["imported", "updated", "failed"]),
  reason: z.string().nullable(),
});

export const importResult = z.object({ ...counts, results: z.array(rowResult) }).openapi("ImportResult");

const status = z.enum(["processing", "completed"]);

export const importAccepted = z
  .object({ ...counts, results: z.array(rowResult), import_id: z.string(), status })
  .openapi("ImportAccepted");

const time = z.string().openapi({ format: "date-time" });

export const importResource = z
  .object({
    import_id: z.string(),
    workspace_id: z.string(),
    status,
    file_name: z.string().nullable(),
    ...counts,
    processed_rows: z.int(),
    created_at: time,
    updated_at: time,
    completed_at: time.nullable(),
  })
  .openapi("Import");
