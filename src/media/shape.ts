import type { z } from "@hono/zod-openapi";
import { isoSeconds } from "../platform/clock";
import { filePath } from "./links";
import { PART_BYTES } from "./object-writer";
import type { mediaResource, uploadResource } from "./schema";
import { partCount } from "./service-uploads";
import type { Media } from "./store";
import type { MediaUpload } from "./store-uploads";

/** A file as the API shows it; `origin` is the deployment's own. */
export function shapeMedia(media: Media, origin: string): z.input<typeof mediaResource> {
  return {
    id: media.id,
    workspace_id: media.workspaceId,
    type: media.type,
    original_url: media.originalUrl,
    storage_url: `${origin}${filePath(media.workspaceId, media.id)}`,
    file_name: media.fileName,
    file_size: media.fileSize,
    mime_type: media.mimeType,
    sha256: media.sha256,
    source: media.source,
    status: media.status,
    error: media.error,
    message_id: media.messageId,
    uploaded_by: media.uploadedBy,
    created_at: isoSeconds(media.createdAt),
    updated_at: isoSeconds(media.updatedAt),
  };
}

export function shapeUpload(upload: MediaUpload): z.input<typeof uploadResource> {
  return {
    id: upload.id,
    workspace_id: upload.workspaceId,
    file_name: upload.fileName,
    mime_type: upload.mimeType,
    file_size: upload.fileSize,
    part_size: PART_BYTES,
    part_count: partCount(upload.fileSize),
    received_parts: Object.keys(upload.parts)
      .map(Number)
      .sort((a, b) => a - b),
    created_at: isoSeconds(upload.createdAt),
    expires_at: isoSeconds(upload.expiresAt),
  };
}
