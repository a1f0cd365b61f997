import { env, exports } from "cloudflare:workers";
import { z } from "zod";
import { signLink } from "../../src/media/links";
import { newUuid } from "../../src/platform/ids";
import { FORM_TYPE, fileOf, formBytes } from "./files";
import { type TestWorkspace, testRuntime } from "./identity";
import type { Call, OperationCase, World } from "./operations";

/** Files in the states that their operations act on. */
export interface WorldMedia {
  fileId: string;
  stickerId: string;
  /** Not completed, with all of it sent. */
  uploadId: string;
  /** Somebody sent a picture that is not fetched yet. */
  pictureMessageId: string;
}

const BOUNDARY = "----operations-media";
const TEXT = "Opening hours: 9 to 17.";
const part = { body: TEXT, headers: { "Content-Type": "application/octet-stream" } };

/** A form with a text nobody has uploaded yet. */
function form(workspaceId: string): { body: string; headers: Record<string, string> } {
  const named = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="workspace_id"\r\n\r\n${workspaceId}\r\n`;
  const head = `${named}--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="hours.txt"\r\nContent-Type: text/plain\r\n\r\n`;
  return {
    body: `${head}${TEXT} ${newUuid()}\r\n--${BOUNDARY}--\r\n`,
    headers: { "Content-Type": `multipart/form-data; boundary=${BOUNDARY}` },
  };
}

const identified = z.object({ id: z.string() });

async function accepted(owner: TestWorkspace, method: string, path: string, init: RequestInit): Promise<string> {
  const headers = new Headers(init.headers);
  headers.set("Authorization", `Bearer ${owner.token}`);
  headers.set("X-Workspace-Id", owner.workspaceId);
  const response = await exports.default.fetch(`http://switchboard.test${path}`, { ...init, method, headers });
  if (!response.ok) throw new Error(`${method} ${path}: ${await response.text()}`);
  return identified.parse(await response.json()).id;
}

async function startUpload(owner: TestWorkspace): Promise<string> {
  const body = JSON.stringify({ workspace_id: owner.workspaceId, file_name: "hours.txt", file_size: TEXT.length });
  const headers = { "Content-Type": "application/json" };
  const id = await accepted(owner, "POST", "/api/media/uploads", { body, headers });
  return accepted(owner, "PUT", `/api/media/uploads/${id}/parts/1`, part);
}

export async function newMedia(owner: TestWorkspace): Promise<WorldMedia> {
  const pictureMessageId = newUuid();
  const database = owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  // Of a thread and number of its own, which no list is asked about.
  await database
    .prepare(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, wa_message_id,
         from_number, lane, seq, not_before, attempts, failures, at, received_at, position, created_at)
       VALUES (?1, ?2, ?3, ?2, ?2, 'inbound', 'live', 'image', '{"id":"1","mime_type":"image/jpeg"}', 'delivered', ?4, '+12025550103', 'chat', 0, 0, 0, 0,
         ?5, ?5, 0, ?5)`,
    )
    .bind(owner.workspaceId, pictureMessageId, newUuid(), `wamid.${pictureMessageId}`, Date.now())
    .run();
  return {
    fileId: await accepted(owner, "POST", "/api/media", form(owner.workspaceId)),
    stickerId: await accepted(owner, "POST", "/api/media", {
      body: formBytes([{ name: "file", file: { name: "cat.webp", type: "image/webp", bytes: fileOf("webp") } }]),
      headers: FORM_TYPE,
    }),
    uploadId: await startUpload(owner),
    pictureMessageId,
  };
}

const filePath = ({ media }: World): Call => ({ params: { media_id: media.fileId } });
const signedPath = ({ owner, media }: World) => ({ workspace_id: owner.workspaceId, media_id: media.fileId });

function sendOf(payload: (media: WorldMedia) => Record<string, string>) {
  return ({ owner, phoneNumberId, media }: World): Call => ({
    body: {
      workspace_id: owner.workspaceId,
      phone_number_id: phoneNumberId,
      to: "+12025550147",
      scheduled_at: new Date(Date.now() + 7 * 86_400_000).toISOString(),
      ...payload(media),
    },
  });
}

/** How the operations of media are called. */
export const MEDIA_CASES: Record<string, OperationCase> = {
  "POST /api/media": {
    status: 201,
    call: ({ owner }) => {
      const { body, headers } = form(owner.workspaceId);
      return { body, headers };
    },
  },
  "GET /api/media": { status: 200, call: ({ owner }) => ({ query: { workspace_id: owner.workspaceId } }) },
  "GET /api/media/{media_id}": { status: 200, call: filePath },
  "HEAD /api/media/{media_id}": { status: 200, call: filePath },
  "DELETE /api/media/{media_id}": { status: 204, call: filePath, once: true },
  "GET /api/media/{media_id}/download": { status: 307, call: filePath },
  "GET /api/media/{media_id}/url": { status: 200, call: filePath },
  "GET /media/{workspace_id}/{media_id}": {
    status: 200,
    call: async (world) => {
      const link = await signLink(testRuntime(), {
        workspaceId: world.owner.workspaceId,
        mediaId: world.media.fileId,
        shard: world.owner.shard,
        expires: Math.floor(Date.now() / 1000) + 600,
        disposition: "inline",
      });
      return {
        params: signedPath(world),
        query: Object.fromEntries(new URL(link, "http://switchboard.test").searchParams),
      };
    },
    unproved: {
      status: 403,
      detail: "The address is not signed, was changed, or has expired",
      call: (world) => ({ params: signedPath(world) }),
    },
  },

  "POST /api/media/uploads": {
    status: 201,
    call: ({ owner }) => ({
      body: { workspace_id: owner.workspaceId, file_name: "hours.txt", file_size: TEXT.length },
    }),
  },
  "PUT /api/media/uploads/{upload_id}/parts/{part_number}": {
    status: 200,
    call: ({ media }) => ({ params: { upload_id: media.uploadId, part_number: "1" }, ...part }),
  },
  "POST /api/media/uploads/{upload_id}/complete": {
    status: 201,
    once: true,
    call: ({ media }) => ({ params: { upload_id: media.uploadId } }),
  },
  "DELETE /api/media/uploads/{upload_id}": {
    status: 204,
    once: true,
    call: ({ media }) => ({ params: { upload_id: media.uploadId } }),
  },

  "POST /api/messages/send/media": {
    status: 201,
    call: sendOf(({ fileId }) => ({ media_id: fileId, media_type: "document" })),
  },
  "POST /api/messages/send/sticker": { status: 201, call: sendOf(({ stickerId }) => ({ media_id: stickerId })) },
  "POST /api/messages/{message_id}/media/retry": {
    status: 200,
    call: ({ media }) => ({ params: { message_id: media.pictureMessageId } }),
  },
};
