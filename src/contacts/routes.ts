import { z } from "@hono/zod-openapi";
import { enterItem, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { pageBody } from "../platform/pagination";
import { exportContacts } from "./export";
import { contactList, contactListQuery, contactResource, createContactBody, updateContactBody } from "./schema";
import type { Contact } from "./store";
import { deleteContact, insertContact, pageContacts, selectContact, updateContact } from "./store-contacts";

const tags = ["Contacts"];
const itemPath = z.object({ contact_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const body = <T extends z.ZodType>(schema: T) => ({ required: true, content: json(schema) });

const create = operation({ kind: "workspace", permission: "contacts.manage" }, ["already_exists"], {
  method: "post",
  path: "/api/contacts",
  tags,
  summary: "Create a contact",
  description: "A contact that was deleted comes back; one that exists is a 409 with its id.",
  request: { body: body(createContactBody) },
  responses: { 201: { description: "The contact", content: json(contactResource) } },
});

const list = operation({ kind: "workspace", permission: "contacts.read" }, [], {
  method: "get",
  path: "/api/contacts",
  tags,
  summary: "Contacts, newest first",
  request: { query: contactListQuery },
  responses: { 200: { description: "A page", content: json(contactList) } },
});

const download = operation({ kind: "workspace", permission: "contacts.manage" }, [], {
  method: "get",
  path: "/api/contacts/export",
  tags,
  summary: "All contacts as CSV",
  description: "Streamed. Cells that a spreadsheet could run as a formula begin with an apostrophe.",
  request: { query: contactListQuery.pick({ workspace_id: true, tags: true, opted_in: true, search: true }) },
  responses: { 200: { description: "The file", content: { "text/csv": { schema: z.string() } } } },
});

const get = operation({ kind: "workspace", permission: "contacts.read", item: true }, [], {
  method: "get",
  path: "/api/contacts/{contact_id}",
  tags,
  summary: "A contact",
  request: { params: itemPath },
  responses: { 200: { description: "The contact", content: json(contactResource) } },
});

const update = operation({ kind: "workspace", permission: "contacts.manage", item: true }, [], {
  method: "patch",
  path: "/api/contacts/{contact_id}",
  tags,
  summary: "Change name, tags or consent",
  request: { params: itemPath, body: body(updateContactBody) },
  responses: { 200: { description: "The contact as it is now", content: json(contactResource) } },
});

const remove = operation({ kind: "workspace", permission: "contacts.manage", item: true }, [], {
  method: "delete",
  path: "/api/contacts/{contact_id}",
  tags,
  summary: "Delete a contact (soft)",
  request: { params: itemPath },
  responses: { 204: { description: "It is gone" } },
});

function shape(contact: Contact): z.input<typeof contactResource> {
  return {
    id: contact.id,
    workspace_id: contact.workspaceId,
    kind: contact.kind,
    wa_id: contact.waId,
    phone_number: contact.phoneNumber,
    user_id: contact.userId,
    username: contact.username,
    name: contact.name,
    opted_in: contact.optedIn,
    consent: contact.consentProof && {
      source: contact.consentProof.source,
      reference: contact.consentProof.reference,
      at: isoSeconds(contact.consentProof.at),
    },
    opted_out_at: isoSecondsOrNull(contact.optedOutAt),
    tags: contact.tags,
    source: contact.source,
    created_at: isoSeconds(contact.createdAt),
    updated_at: isoSeconds(contact.updatedAt),
  };
}

function filterOf(query: { tags?: string; opted_in?: boolean; search?: string }) {
  const named = (query.tags ?? "").split(",").map((tag) => tag.trim());
  return { tags: named.filter((tag) => tag !== ""), optedIn: query.opted_in ?? null, search: query.search ?? null };
}

function proofOf(at: number): string {
  return JSON.stringify({ source: "api", reference: null, at });
}

export const contactRoutes = createRouter()
  .openapi(create, async (c) => {
    const input = c.req.valid("json");
    const scope = await enterWorkspace(c, "contacts.manage", input.workspace_id);
    const now = scope.rt.clock();
    const result = await insertContact(
      scope.db,
      {
        workspaceId: scope.workspaceId,
        id: scope.rt.newId(),
        phoneNumber: input.phone_number,
        digits: input.phone_number.slice(1),
        name: input.name ?? null,
        tags: input.tags ?? [],
        optedIn: input.opted_in ?? true,
        proof: proofOf(now),
      },
      now,
    );
    rememberBookmark(c, scope);
    if (result.kind === "exists") {
      throw new AppError("already_exists", "A contact with this phone number exists already", {
        extra: { id: result.id },
      });
    }
    return c.json(shape(result.contact), 201);
  })
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const scope = await enterWorkspace(c, "contacts.read", query.workspace_id);
    const page = await pageContacts(scope.db, scope.workspaceId, filterOf(query), query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shape), 200);
  })
  .openapi(download, async (c) => {
    const query = c.req.valid("query");
    const scope = await enterWorkspace(c, "contacts.manage", query.workspace_id);
    return c.body(exportContacts(scope.db, scope.workspaceId, filterOf(query)), 200, {
      "Content-Type": "text/csv; charset=utf-8",
      "Content-Disposition": 'attachment; filename="contacts.csv"',
      "X-Content-Type-Options": "nosniff",
    }) as never;
  })
  .openapi(get, async (c) => {
    const { contact_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.read", contact_id, (db, ids) =>
      selectContact(db, ids, contact_id),
    );
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(update, async (c) => {
    const { contact_id } = c.req.valid("param");
    const input = c.req.valid("json");
    const { scope, item } = await enterItem(c, "contacts.manage", contact_id, (db, ids) =>
      selectContact(db, ids, contact_id),
    );
    const now = scope.rt.clock();
    const consent = input.opted_in === undefined ? undefined : { optedIn: input.opted_in, proof: proofOf(now) };
    const contact = await updateContact(
      scope.db,
      scope.workspaceId,
      item.id,
      { name: input.name, tags: input.tags, consent },
      now,
    );
    if (!contact) throw new AppError("not_found", "Resource not found");
    rememberBookmark(c, scope);
    return c.json(shape(contact), 200);
  })
  .openapi(remove, async (c) => {
    const { contact_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "contacts.manage", contact_id, (db, ids) =>
      selectContact(db, ids, contact_id),
    );
    await deleteContact(scope.db, scope.workspaceId, item.id, scope.rt.clock());
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
