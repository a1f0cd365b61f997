import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import { MEDIA_TYPES } from "./schema";

/** A file of a workspace: uploaded, or received with a message. Several may share one stored object. */
export const media = sqliteTable(
  "media",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    type: text("type", { enum: MEDIA_TYPES }).notNull(),
    source: text("source", { enum: ["upload", "inbound"] }).notNull(),
    /** Inbound files only: `failed` could not be fetched, `pending` is being fetched once more. */
    status: text("status", { enum: ["ready", "pending", "failed"] }).notNull(),
    /** Null until there is something stored, and again once a deleted file has let go of it. */
    objectId: text("object_id"),
    fileName: text("file_name"),
    fileSize: integer("file_size"),
    mimeType: text("mime_type").notNull(),
    /** Hex. */
    sha256: text("sha256"),
    /** The provider's link of an inbound file. It works for minutes. */
    originalUrl: text("original_url"),
    /** The user; null for an API key and for inbound files. */
    uploadedBy: text("uploaded_by"),
    /** Of inbound files: our number, the provider's id of the file, and the first message that carried it. */
    phoneNumberId: text("phone_number_id"),
    providerMediaId: text("provider_media_id"),
    messageId: text("message_id"),
    /** Why it could not be fetched. */
    error: text("error", { mode: "json" }).$type<MediaError>(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the list, newest first.
    index("media_listed").on(t.workspaceId, t.id).where(sql`status = 'ready' AND deleted_at IS NULL`),
    // Serves: the list of one type and its total.
    index("media_by_type").on(t.workspaceId, t.type, t.id).where(sql`status = 'ready' AND deleted_at IS NULL`),
    // Serves: one row per file a provider named; the files of a page of messages.
    uniqueIndex("media_inbound")
      .on(t.workspaceId, t.phoneNumberId, t.providerMediaId)
      .where(sql`provider_media_id IS NOT NULL`),
    // Serves: whether anything still refers to an object.
    index("media_object").on(t.workspaceId, t.objectId).where(sql`object_id IS NOT NULL AND deleted_at IS NULL`),
    // Serves: the nightly job that finds what deleted files let go of.
    index("media_deleted").on(t.deletedAt).where(sql`deleted_at IS NOT NULL AND object_id IS NOT NULL`),
  ],
);

/** Shown on a message whose file could not be fetched. */
export interface MediaError {
  code: string | number;
  title: string;
  details: string | null;
}

/**
 * The bytes behind files, one per content and workspace. The row comes before the object in R2 and goes after it, so
 * that no crash leaves bytes that nobody knows of.
 */
export const mediaObjects = sqliteTable(
  "media_objects",
  {
    workspaceId: text("workspace_id").notNull(),
    /** Also the key in R2: `media/<id>`. */
    id: text("id").notNull(),
    /** `uploading` is nobody's yet; `doomed` is found by no upload any more and removed when `due_at` has come. */
    state: text("state", { enum: ["uploading", "ready", "doomed"] }).notNull(),
    /** Hex; known once it is ready. */
    sha256: text("sha256"),
    size: integer("size"),
    /** R2's id of the multipart upload it comes by, until the parts are one object. */
    multipartId: text("multipart_id"),
    /** When an unfinished upload is given up, or a doomed object removed. */
    dueAt: integer("due_at"),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the same file twice in a workspace is stored once.
    uniqueIndex("media_objects_content").on(t.workspaceId, t.sha256).where(sql`state = 'ready'`),
    // Serves: the nightly job.
    index("media_objects_due").on(t.dueAt).where(sql`due_at IS NOT NULL`),
  ],
);

/** An upload in parts, for bodies that the zone's plan refuses. Its id is its object's and becomes the file's. */
export const mediaUploads = sqliteTable(
  "media_uploads",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    /** R2's id of the multipart upload. */
    multipartId: text("multipart_id").notNull(),
    fileName: text("file_name"),
    /** As the caller declared it; null when not declared. */
    mimeType: text("mime_type"),
    fileSize: integer("file_size").notNull(),
    /** Part number -> R2's etag. */
    parts: text("parts", { mode: "json" }).$type<Record<string, string>>().notNull(),
    uploadedBy: text("uploaded_by"),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.id] })],
);

/** What a provider calls a file that was uploaded to it for one of our numbers, until it forgets it. */
export const mediaProviderIds = sqliteTable(
  "media_provider_ids",
  {
    workspaceId: text("workspace_id").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    sha256: text("sha256").notNull(),
    mimeType: text("mime_type").notNull(),
    providerMediaId: text("provider_media_id").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.phoneNumberId, t.sha256, t.mimeType] })],
);
