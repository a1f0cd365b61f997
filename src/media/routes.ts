import { z } from "@hono/zod-openapi";
import { authenticate, enterItem, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { fromHex } from "../platform/crypto";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { pageBody } from "../platform/pagination";
import { shard } from "../platform/runtime";
import { type Disposition, signLink } from "./links";
import { linkAnswer, linkQuery, mediaList, mediaListQuery, mediaResource } from "./schema";
import { entityTag } from "./serve";
import { deleteMedia, receiveFile } from "./service";
import { shapeMedia } from "./shape";
import { type Media, pageMedia, selectMedia } from "./store";

const itemPath = z.object({ media_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });

/** How long the address of a download works (003 "Download Media"). */
const DOWNLOAD_MINUTES = 60;

const upload = operation({ kind: "workspace", permission: "media.upload" }, ["conflict"], {
  method: "post",
  path: "/api/media",
  tags: ["Media"],
  summary: "Upload a file",
  description:
    "Images and audio up to 16 MB, videos and documents up to 100 MB. A zone whose plan refuses bodies of that size takes it in parts: see `POST /api/media/uploads`.",
  request: {
    body: {
      required: true,
      content: {
        // Described, not parsed: the file goes to the bucket as it comes.
        "multipart/form-data": {
          schema: {
            type: "object",
            required: ["file"],
            properties: {
              workspace_id: { type: "string", format: "uuid" },
              file: { type: "string", format: "binary" },
            },
          },
        },
      },
    },
  },
  responses: { 201: { description: "Stored", content: json(mediaResource) } },
});

const list = operation({ kind: "workspace", permission: "media.read" }, [], {
  method: "get",
  path: "/api/media",
  tags: ["Media"],
  summary: "Files, newest first",
  request: { query: mediaListQuery },
  responses: { 200: { description: "A page", content: json(mediaList) } },
});

const READ_ITEM = { kind: "workspace", permission: "media.read", item: true } as const;

const get = operation(READ_ITEM, [], {
  method: "get",
  path: "/api/media/{media_id}",
  tags: ["Media"],
  summary: "A file's details",
  request: { params: itemPath },
  responses: { 200: { description: "The file", content: json(mediaResource) } },
});

const head = operation(READ_ITEM, ["conflict"], {
  method: "head",
  path: "/api/media/{media_id}",
  tags: ["Media"],
  summary: "A file's size, type and hash, as headers",
  request: { params: itemPath },
  responses: {
    200: {
      description: "The headers that its bytes would have",
      headers: z.object({
        "Content-Length": z.string(),
        "Content-Type": z.string(),
        ETag: z.string().openapi({ description: "The SHA-256 of the bytes, in hex." }),
        "Repr-Digest": z.string().openapi({ description: "The SHA-256 of the bytes (RFC 9530)." }),
      }),
    },
  },
});

const remove = operation({ kind: "workspace", permission: "media.delete", item: true }, [], {
  method: "delete",
  path: "/api/media/{media_id}",
  tags: ["Media"],
  summary: "Delete a file",
  request: { params: itemPath },
  responses: { 204: { description: "Deleted; its addresses work no more" } },
});

const download = operation(READ_ITEM, ["conflict"], {
  method: "get",
  path: "/api/media/{media_id}/download",
  tags: ["Media"],
  summary: "Download a file",
  request: { params: itemPath },
  responses: {
    307: { description: "To an address that works for 60 minutes", headers: z.object({ Location: z.string() }) },
  },
});

const getUrl = operation(READ_ITEM, ["conflict"], {
  method: "get",
  path: "/api/media/{media_id}/url",
  tags: ["Media"],
  summary: "An address of a file that works without credentials, for a while",
  request: { params: itemPath, query: linkQuery },
  responses: { 200: { description: "The address", content: json(linkAnswer) } },
});

function declaredLength(c: AppContext): number | null {
  const length = c.req.header("content-length");
  return length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

function originOf(c: AppContext): string {
  return new URL(c.req.url).origin;
}

/** Only what was fetched has bytes; of what was not the answer says so. */
function checkReady(media: Media): void {
  if (media.status === "ready") return;
  throw new AppError("conflict", media.error?.title ?? "The file is not fetched yet");
}

async function linkTo(
  c: AppContext,
  media: Media,
  shardNumber: number,
  minutes: number,
  disposition: Disposition,
): Promise<{ url: string; expiresAt: number }> {
  checkReady(media);
  const expires = Math.floor(c.var.rt.clock() / 1000) + minutes * 60;
  const link = { workspaceId: media.workspaceId, mediaId: media.id, shard: shardNumber, expires, disposition };
  return { url: `${originOf(c)}${await signLink(c.var.rt, link)}`, expiresAt: expires * 1000 };
}

/** What HEAD tells: the headers of the file's bytes. */
function headersOf(media: Media): Record<string, string> {
  checkReady(media);
  const digest = fromHex(media.sha256 ?? "") ?? new Uint8Array();
  return {
    "Content-Length": String(media.fileSize),
    "Content-Type": media.mimeType,
    ETag: entityTag(media),
    "Repr-Digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:`,
  };
}

export const mediaRoutes = createRouter()
  .openapi(upload, async (c) => {
    const type = c.req.header("content-type") ?? "";
    if (!/^multipart\/form-data\b/i.test(type)) {
      throw new AppError("unsupported_media_type", "The Content-Type must be multipart/form-data");
    }
    const [first] = (await authenticate(c)).memberships;
    if (!first) throw new AppError("not_found", "Workspace not found");
    const { scope, media } = await receiveFile(
      c.var.rt,
      { body: c.req.raw.body, contentType: type, declaredLength: declaredLength(c) },
      { db: shard(c.var.rt, first.shard), workspaceId: first.workspaceId },
      (workspaceId) => enterWorkspace(c, "media.upload", workspaceId),
    );
    rememberBookmark(c, scope);
    return c.json(shapeMedia(media, originOf(c)), 201);
  })
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const scope = await enterWorkspace(c, "media.read", query.workspace_id);
    const page = await pageMedia(scope.db, scope.workspaceId, query.type, query);
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (media) => shapeMedia(media, originOf(c))),
      200,
    );
  })
  .openapi(get, async (c) => {
    const { media_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "media.read", media_id, (db, ids) => selectMedia(db, ids, media_id));
    rememberBookmark(c, scope);
    // HEAD arrives here too: the router takes the body off what this answers.
    return c.json(shapeMedia(item, originOf(c)), 200, c.req.method === "HEAD" ? headersOf(item) : {});
  })
  .openapi(remove, async (c) => {
    const { media_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "media.delete", media_id, (db, ids) => selectMedia(db, ids, media_id));
    await deleteMedia(scope.rt, scope.db, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(download, async (c) => {
    const { media_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "media.read", media_id, (db, ids) => selectMedia(db, ids, media_id));
    const { url } = await linkTo(c, item, scope.membership.shard, DOWNLOAD_MINUTES, "attachment");
    return c.body(null, 307, { Location: url, "Cache-Control": "no-store" });
  })
  .openapi(getUrl, async (c) => {
    const { media_id } = c.req.valid("param");
    const { expiry_minutes } = c.req.valid("query");
    const { scope, item } = await enterItem(c, "media.read", media_id, (db, ids) => selectMedia(db, ids, media_id));
    const { url, expiresAt } = await linkTo(c, item, scope.membership.shard, expiry_minutes, "inline");
    return c.json({ url, expires_in_minutes: expiry_minutes, expires_at: isoSeconds(expiresAt) }, 200);
  });

mediaRoutes.openAPIRegistry.registerPath(head);
