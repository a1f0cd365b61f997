/** Files a send names are looked at while the caller waits: what can never be sent is refused, with nothing queued. */
import type { PhoneNumber } from "../phone-numbers/service";
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { providerFor } from "../providers/registry";
import { filesOf, type ShownAs } from "./references";
import { selectByKeys } from "./store";

/**
 * Throws 422 for a file that is not there, and 422 `provider_limit` naming provider, limit and field for what the
 * number's provider cannot carry (contract 15). One read where the message names a file of ours, none otherwise.
 */
export async function checkFiles(
  rt: Runtime,
  db: Db,
  number: PhoneNumber,
  message: { type: string; content: Record<string, unknown> },
): Promise<void> {
  const named = filesOf(message);
  if (named.length === 0) return;
  const { workspaceId } = number;
  const files = await selectByKeys(
    db,
    named.map(({ mediaId }) => ({ workspaceId, id: mediaId })),
  );
  const caption = typeof message.content.caption === "string" ? message.content.caption : null;
  for (const { mediaId, as } of named) {
    const loc = placeOf(message.type, as);
    const file = files.find((one) => one.id === mediaId && one.deletedAt === null);
    if (!file) throw invalidField([...loc, "media_id"], "Media not found in this workspace");
    if (file.status !== "ready") throw invalidField([...loc, "media_id"], "The file is not fetched yet");
    const limit = providerFor(rt, number.provider).mediaLimit({
      messageType: as,
      mimeType: file.mimeType,
      size: file.fileSize ?? 0,
      caption,
    });
    if (limit === null) continue;
    throw new AppError("provider_limit", limit.reason, {
      fields: [{ loc: [...loc, limit.field], msg: limit.reason }],
      extra: { provider: number.provider, limit: limit.limit, field: limit.field },
    });
  }
}

/** Where the body of a send names its file. */
function placeOf(type: string, as: ShownAs): string[] {
  if (type === "template") return ["body", "components", "header"];
  return type === "interactive" ? ["body", "interactive", "header", as] : ["body"];
}
