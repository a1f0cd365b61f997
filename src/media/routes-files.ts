import { z } from "@hono/zod-openapi";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { AppError } from "../platform/errors";
import { log } from "../platform/log";
import { shard } from "../platform/runtime";
import { verifyLink } from "./links";
import { objectKey } from "./object-writer";
import { askedRange, hasTag } from "./range";
import { entityTag, fileHeaders } from "./serve";
import { selectServed } from "./store";

const bytes = { "application/octet-stream": { schema: { type: "string" as const, format: "binary" as const } } };

const getFile = operation({ kind: "signed", by: "link" }, ["forbidden", "not_found"], {
  method: "get",
  path: "/media/{workspace_id}/{media_id}",
  tags: ["Media"],
  summary: "A file's bytes, at a signed address",
  description: "Ask `GET /api/media/{media_id}/url` for the address. Answers `Range`, `If-Range` and `If-None-Match`.",
  request: {
    params: z.object({ workspace_id: z.string(), media_id: z.string() }),
    query: z.object({
      shard: z.string().optional(),
      expires: z.string().optional(),
      disposition: z.string().optional(),
      signature: z.string().optional(),
    }),
  },
  responses: {
    200: { description: "The file", content: bytes },
    206: { description: "A part of it", content: bytes },
    304: { description: "What the caller has is the file" },
    416: { description: "The file has no such part" },
  },
});

export const mediaFileRoutes = createRouter().openapi(getFile, async (c) => {
  const { workspace_id, media_id } = c.req.valid("param");
  const link = await verifyLink(c.var.rt, { workspaceId: workspace_id, mediaId: media_id }, c.req.query());
  if (!link) throw new AppError("forbidden", "The address is not signed, was changed, or has expired");
  const media = await selectServed(shard(c.var.rt, link.shard), link.workspaceId, link.mediaId);
  if (!media || media.objectId === null || media.fileSize === null) {
    throw new AppError("not_found", "Resource not found");
  }
  const headers = fileHeaders(media, link.disposition);
  if (hasTag(c.req.header("if-none-match"), entityTag(media))) return c.body(null, 304, headers);
  if (c.req.method === "HEAD") {
    return c.body(null, 200, { ...headers, "Content-Length": String(media.fileSize) });
  }
  const same = c.req.header("if-range") ?? entityTag(media);
  const range = askedRange(same === entityTag(media) ? c.req.header("range") : undefined, media.fileSize);
  if (range.kind === "outside") return c.body(null, 416, { ...headers, "Content-Range": `bytes */${media.fileSize}` });
  const part = range.kind === "part" ? { offset: range.offset, length: range.length } : undefined;
  const object = await c.var.rt.env.MEDIA.get(objectKey(media.objectId), { range: part });
  if (!object) {
    log("error", "media.bytes_missing", { workspace_id: media.workspaceId, media_id: media.id });
    throw new AppError("not_found", "Resource not found");
  }
  if (!part) return c.body(object.body, 200, { ...headers, "Content-Length": String(media.fileSize) });
  return c.body(object.body, 206, {
    ...headers,
    "Content-Length": String(part.length),
    "Content-Range": `bytes ${part.offset}-${part.offset + part.length - 1}/${media.fileSize}`,
  });
});
