/** Files of ours as the examples that a template's header is reviewed by. */
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import type { Connection, Provider, ProviderResult } from "../providers/provider";
import { objectKey } from "./object-writer";
import { selectMedia } from "./store";

/** ms for the upload of one example. */
const UPLOAD_TIME = 60_000;

const LOC = ["body", "components", "header", "example", "media_id"];

/**
 * Throws 422 for an example that is not there, and 422 `provider_limit` for one that the provider does not take
 * with a header of this format (`IMAGE`, `VIDEO`, `DOCUMENT`).
 */
export async function checkSample(
  db: Db,
  workspaceId: string,
  provider: Provider,
  sample: { mediaId: string; format: string },
): Promise<void> {
  const file = await selectMedia(db, [workspaceId], sample.mediaId);
  if (!file) throw invalidField(LOC, "Media not found in this workspace");
  if (file.status !== "ready") throw invalidField(LOC, "The file is not fetched yet");
  const limit = provider.sampleTypes.includes(file.mimeType)
    ? provider.mediaLimit({
        messageType: sample.format.toLowerCase(),
        mimeType: file.mimeType,
        size: file.fileSize ?? 0,
        caption: null,
      })
    : {
        limit: provider.sampleTypes.join(", "),
        reason: `Examples of headers may be of type ${provider.sampleTypes.join(", ")}; this one is ${file.mimeType}`,
      };
  if (limit === null) return;
  throw new AppError("provider_limit", limit.reason, {
    fields: [{ loc: LOC, msg: limit.reason }],
    extra: { provider: provider.name, limit: limit.limit, field: "media_id" },
  });
}

const GONE = {
  ok: false,
  refused: true,
  error: { code: "media_deleted", title: "The example of the header was deleted", details: null, retryable: false },
} as const;

/** Hands one of the workspace's files to the provider as an example; answers the handle that names it there. */
export async function uploadSample(
  rt: Runtime,
  db: Db,
  to: { provider: Provider; connection: Connection },
  file: { workspaceId: string; mediaId: string },
): Promise<ProviderResult<string>> {
  const media = await selectMedia(db, [file.workspaceId], file.mediaId);
  if (!media || media.objectId === null) return GONE;
  const object = await rt.env.MEDIA.get(objectKey(media.objectId));
  if (!object) return GONE;
  const { mimeType, fileName } = media;
  const sample = { body: object.body, size: object.size, mimeType, fileName: fileName ?? "example" };
  return to.provider.uploadSample(to.connection, sample, UPLOAD_TIME);
}
