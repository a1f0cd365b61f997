import { z } from "@hono/zod-openapi";
import { enterItem, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { erasureResource } from "./schema";
import { type Erasure, eraseContact, selectErasable, selectErasure } from "./service-erase";
import { MARKS_KEPT } from "./service-erased";

const ACCESS = { kind: "workspace", permission: "contacts.erase", item: true } as const;
const params = z.object({ contact_id: uuidSchema });
const content = { "application/json": { schema: erasureResource } };

const erase = operation(ACCESS, [], {
  method: "post",
  path: "/api/contacts/{contact_id}/erase",
  tags: ["Contacts"],
  summary: "Erase a person for good",
  description:
    "Deleted contacts too. At once the contact, its numbers and its conversations are gone and nothing that waits is sent; what was said, files that came, events, the live log, failed work, rows of imports and the search index follow in the background. It cannot be undone. Whoever writes from the same number later is a new contact; what was said up to then is dropped when its webhook comes again. Calling it again answers the same erasure. Files of the media library that were sent to the person stay in the library.",
  request: { params },
  responses: { 202: { description: "How far it is, and which copies can only expire", content } },
});

const get = operation(ACCESS, [], {
  method: "get",
  path: "/api/contacts/{contact_id}/erasure",
  tags: ["Contacts"],
  summary: "How far the erasure of a person is",
  request: { params },
  responses: { 200: { description: "The erasure; it is kept as the proof", content } },
});

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** Copies nobody can reach into, and for how long they stay (ms). */
const COPIES = [
  { copy: "Idempotency keys of sends, as the callers chose them", kept: DAY },
  // What a provider told before is dropped when it is delivered; what of it fails before that is kept as failed work.
  { copy: "Work in queues that was not delivered yet, and what of it fails", kept: 34 * DAY },
  { copy: "Point-in-time recovery of the databases and of the live log (Cloudflare)", kept: 30 * DAY },
  { copy: "Bodies of webhooks that were too large for the queue, or whose owner was not known", kept: 30 * DAY },
  { copy: "What WhatsApp, the provider and the person's own phone keep", kept: null },
] as const;

/** Kept from the beginning of the erasure. */
const MARKS = "Keyed hashes of the person's numbers and ids, by which an old webhook that comes again is dropped";
const RECOGNISED_BY = "The person's numbers and ids, by which what is still on its way is recognised";

function shape(erasure: Erasure): z.input<typeof erasureResource> {
  const from = erasure.completedAt ?? erasure.updatedAt;
  return {
    contact_id: erasure.id,
    workspace_id: erasure.workspaceId,
    status: erasure.status,
    messages: erasure.messages,
    files: erasure.files,
    events: erasure.events,
    requested_at: isoSeconds(erasure.createdAt),
    completed_at: isoSecondsOrNull(erasure.completedAt),
    remaining: [
      // Minutes: until nothing can come any more that was under way when it began.
      ...(erasure.dueAt === null ? [] : [{ copy: RECOGNISED_BY, gone_by: isoSeconds(erasure.dueAt) }]),
      { copy: MARKS, gone_by: isoSeconds(erasure.createdAt + MARKS_KEPT + DAY) },
      ...COPIES.map(({ copy, kept }) => ({ copy, gone_by: kept === null ? null : isoSeconds(from + kept) })),
    ],
  };
}

export const contactEraseRoutes = createRouter()
  .openapi(erase, async (c) => {
    const { contact_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.erase", contact_id, (db, ids) =>
      selectErasable(db, ids, contact_id),
    );
    const { caller } = scope;
    const by = caller.kind === "user" ? caller.userId : null;
    const erasure = await eraseContact(scope.rt, scope.db, scope.membership.shard, item, by);
    if (!erasure) throw new AppError("not_found", "Resource not found");
    rememberBookmark(c, scope);
    return c.json(shape(erasure), 202);
  })
  .openapi(get, async (c) => {
    const { contact_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.erase", contact_id, (db, ids) =>
      selectErasure(db, ids, contact_id),
    );
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  });
