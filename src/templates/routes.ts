import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { resolveNumber } from "../phone-numbers/service";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { invalidField } from "../platform/errors";
import { pageBody } from "../platform/pagination";
import {
  changeTemplateBody,
  createTemplateBody,
  previewTemplateAnswer,
  previewTemplateBody,
  syncTemplatesAnswer,
  syncTemplatesBody,
  templateListQuery,
  templatePage,
  templateParams,
  templateResource,
} from "./schema";
import { renderTemplate } from "./service";
import { changeTemplate, createTemplate, deleteTemplate } from "./service-manage";
import { syncTemplates } from "./service-sync";
import { findTemplate, pageTemplates, type Template, type TemplateFilter } from "./store";

const tags = ["Templates"];
const path = "/api/templates";
const itemPath = `${path}/{template_id}` as const;

const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const answer = (description: string) => ({ description, content: json(templateResource) });

const createRoute = operation(
  { kind: "workspace", permission: "templates.manage" },
  ["provider_refused", "provider_unavailable", "bad_request", "already_exists", "conflict"],
  {
    method: "post",
    path,
    tags,
    summary: "Make a template and hand it in for review",
    description:
      "A refusal of the provider's is a 400 with its reason, and nothing is stored. When the provider cannot be reached the template waits, with `meta_template_id` null, and is handed in later.",
    request: { body: { required: true, content: json(createTemplateBody) } },
    responses: { 201: answer("The template") },
  },
);

const listRoute = operation({ kind: "workspace", permission: "templates.read" }, [], {
  method: "get",
  path,
  tags,
  summary: "The templates of a workspace, newest first",
  request: { query: templateListQuery },
  responses: { 200: { description: "A page of them", content: json(templatePage) } },
});

const syncRoute = operation(
  { kind: "workspace", permission: "templates.manage" },
  ["provider_refused", "provider_unavailable", "bad_request"],
  {
    method: "post",
    path: `${path}/sync`,
    tags,
    summary: "Bring in the templates the provider has of a number's business account",
    description: "What was deleted here stays deleted.",
    request: { body: { required: true, content: json(syncTemplatesBody) } },
    responses: { 200: { description: "What was found", content: json(syncTemplatesAnswer) } },
  },
);

const getRoute = operation({ kind: "workspace", permission: "templates.read", item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One template",
  request: { params: templateParams },
  responses: { 200: answer("The template") },
});

const changeRoute = operation(
  { kind: "workspace", permission: "templates.manage", item: true },
  ["provider_refused", "provider_unavailable", "conflict"],
  {
    method: "patch",
    path: itemPath,
    tags,
    summary: "Change a template, or ask how the provider has it",
    description:
      "Which templates can be edited, and how often, is the provider's rule: approved ones once a day and ten times in 30 days, without their category; rejected and paused ones at will.",
    request: { params: templateParams, body: { required: true, content: json(changeTemplateBody) } },
    responses: { 200: answer("The template as the provider has it") },
  },
);

const deleteRoute = operation(
  { kind: "workspace", permission: "templates.manage", item: true },
  ["provider_refused", "provider_unavailable", "conflict"],
  {
    method: "delete",
    path: itemPath,
    tags,
    summary: "Delete a template: this language at the provider, softly here",
    request: { params: templateParams },
    responses: { 204: { description: "It is gone" } },
  },
);

const previewRoute = operation({ kind: "workspace", permission: "templates.read", item: true }, [], {
  method: "post",
  path: `${itemPath}/preview`,
  tags,
  summary: "A template as the person would read it",
  description: "With the parameters given, checked as a send checks them; without any, with its examples.",
  request: { params: templateParams, body: { required: false, content: json(previewTemplateBody) } },
  responses: { 200: { description: "The filled template", content: json(previewTemplateAnswer) } },
});

function bodyOf(template: Template, note: string | null = template.note): z.input<typeof templateResource> {
  return {
    id: template.id,
    workspace_id: template.workspaceId,
    phone_number_id: template.phoneNumberId,
    name: template.name,
    category: template.category,
    language: template.language,
    status: template.status,
    meta_template_id: template.metaTemplateId,
    components: template.components,
    rejection_reason: template.rejectionReason,
    created_at: isoSeconds(template.createdAt),
    updated_at: isoSeconds(template.updatedAt),
    provider_status: template.providerStatus,
    status_note: note,
    parameter_format: template.parameterFormat,
    quality_score: template.qualityScore,
    synced_at: isoSecondsOrNull(template.syncedAt),
  };
}

/** Enters the workspace that holds the template: one that is not the caller's is a 404. */
function enterTemplate(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => findTemplate(db, workspaceIds, id));
}

export const templateRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "templates.manage", body.workspace_id);
    const template = await createTemplate(scope, body);
    rememberBookmark(c, scope);
    return c.json(bodyOf(template), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const scope = await enterWorkspace(c, "templates.read", query.workspace_id);
    const filter: TemplateFilter = {
      status: query.status,
      category: query.category,
      name: query.name,
      language: query.language,
    };
    if (query.phone_number_id !== undefined) {
      const number = await resolveNumber(scope.db, scope.workspaceId, query.phone_number_id);
      // A number nobody has sends nothing.
      filter.businessId = number?.businessId ?? null;
    }
    const page = await pageTemplates(scope.db, scope.workspaceId, filter, query);
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (template) => bodyOf(template)),
      200,
    );
  })
  .openapi(syncRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "templates.manage", body.workspace_id);
    const { number, ...counts } = await syncTemplates(scope, body.phone_number_id ?? null);
    rememberBookmark(c, scope);
    return c.json({ phone_number_id: number.id, business_id: number.businessId, ...counts }, 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterTemplate(c, "templates.read", c.req.valid("param").template_id);
    rememberBookmark(c, scope);
    return c.json(bodyOf(item), 200);
  })
  .openapi(changeRoute, async (c) => {
    const id = c.req.valid("param").template_id;
    const { scope, item } = await enterTemplate(c, "templates.manage", id);
    const { template, note } = await changeTemplate(scope, item, c.req.valid("json"));
    rememberBookmark(c, scope);
    return c.json(bodyOf(template, note ?? template.note), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const id = c.req.valid("param").template_id;
    const { scope, item } = await enterTemplate(c, "templates.manage", id);
    await deleteTemplate(scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(previewRoute, async (c) => {
    const id = c.req.valid("param").template_id;
    const { scope, item } = await enterTemplate(c, "templates.read", id);
    const rendering = renderTemplate(item, c.req.valid("json").components);
    if (!rendering.ok) throw invalidField(["body", "components", ...rendering.field], rendering.msg);
    rememberBookmark(c, scope);
    return c.json({ ...rendering.rendered, components: rendering.components }, 200);
  });
