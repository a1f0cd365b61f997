import { z } from "@hono/zod-openapi";
import { enterItem, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { uuidSchema } from "../platform/ids";
import { mediaResource, startUploadBody, uploadResource } from "./schema";
import { abortUpload, completeUpload, receivePart, startUpload } from "./service-uploads";
import { shapeMedia, shapeUpload } from "./shape";
import { selectUpload } from "./store-uploads";

const itemPath = z.object({ upload_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const ITEM = { kind: "workspace", permission: "media.upload", item: true } as const;

/** R2 takes up to 10,000 parts; how many an upload has follows from its size. */
const partNumber = z
  .string()
  .regex(/^[1-9]\d{0,4}$/, "Must be a whole number from 1")
  .transform(Number)
  .openapi({ type: "integer", minimum: 1 });

const start = operation({ kind: "workspace", permission: "media.upload" }, ["too_large"], {
  method: "post",
  path: "/api/media/uploads",
  tags: ["Media"],
  summary: "Start an upload in parts",
  description:
    "For files larger than the bodies that the zone's plan lets through. Send each part of `part_size` bytes (the last has the rest), in any order, then complete it within 24 hours.",
  request: { body: { required: true, content: json(startUploadBody) } },
  responses: { 201: { description: "Started", content: json(uploadResource) } },
});

const putPart = operation(ITEM, ["conflict"], {
  method: "put",
  path: "/api/media/uploads/{upload_id}/parts/{part_number}",
  tags: ["Media"],
  summary: "Send one part",
  request: {
    params: itemPath.extend({ part_number: partNumber }),
    body: {
      required: true,
      content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
    },
  },
  responses: { 200: { description: "Taken", content: json(uploadResource) } },
});

const complete = operation(ITEM, ["conflict", "too_large"], {
  method: "post",
  path: "/api/media/uploads/{upload_id}/complete",
  tags: ["Media"],
  summary: "Make a file of the parts",
  request: { params: itemPath },
  responses: { 201: { description: "Stored", content: json(mediaResource) } },
});

const abort = operation(ITEM, ["conflict"], {
  method: "delete",
  path: "/api/media/uploads/{upload_id}",
  tags: ["Media"],
  summary: "Give an upload up",
  request: { params: itemPath },
  responses: { 204: { description: "Nothing of it is left" } },
});

function enterUpload(c: AppContext, uploadId: string) {
  return enterItem(c, "media.upload", uploadId, (db, ids) => selectUpload(db, ids, uploadId));
}

export const mediaUploadRoutes = createRouter()
  .openapi(start, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "media.upload", body.workspace_id);
    const upload = await startUpload(scope.rt, scope, {
      fileName: body.file_name ?? null,
      mimeType: body.mime_type ?? null,
      fileSize: body.file_size,
    });
    rememberBookmark(c, scope);
    return c.json(shapeUpload(upload), 201);
  })
  .openapi(putPart, async (c) => {
    const { upload_id, part_number } = c.req.valid("param");
    const { scope, item } = await enterUpload(c, upload_id);
    const upload = await receivePart(scope.rt, scope, item, part_number, c.req.raw.body);
    rememberBookmark(c, scope);
    return c.json(shapeUpload(upload), 200);
  })
  .openapi(complete, async (c) => {
    const { upload_id } = c.req.valid("param");
    const { scope, item } = await enterUpload(c, upload_id);
    const media = await completeUpload(scope.rt, scope, item);
    rememberBookmark(c, scope);
    return c.json(shapeMedia(media, new URL(c.req.url).origin), 201);
  })
  .openapi(abort, async (c) => {
    const { upload_id } = c.req.valid("param");
    const { scope, item } = await enterUpload(c, upload_id);
    await abortUpload(scope.rt, scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
