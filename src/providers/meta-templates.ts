import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callGraph } from "./graph";
import { resultOf } from "./meta-results";
import type { Connection, ProviderResult, ProviderTemplate, TemplateDraft, TemplatePage } from "./provider";
import { listOf } from "./provider-json";

const FIELDS = "id,name,language,status,category,components,parameter_format,rejected_reason,quality_score";

/** A page of this many templates stays within the bound of an answer, however many buttons they have. */
const PAGE = 50;

export const templateSchema = z
  .object({
    id: z.coerce.string().min(1),
    name: z.string().min(1),
    language: z.string().min(1),
    status: z.string().min(1),
    category: z.string().min(1),
    components: z.array(z.record(z.string(), z.unknown())).default([]),
    parameter_format: z.enum(["POSITIONAL", "NAMED"]).catch("POSITIONAL"),
    rejected_reason: z.string().nullish(),
    quality_score: z.object({ score: z.string() }).nullish().catch(null),
  })
  .transform(
    (template): ProviderTemplate => ({
      id: template.id,
      name: template.name,
      language: template.language,
      status: template.status,
      category: template.category,
      components: template.components,
      parameterFormat: template.parameter_format,
      rejectedReason: reasonOf(template.rejected_reason),
      qualityScore: template.quality_score?.score ?? null,
    }),
  );

/** Meta writes NONE where there is no reason. */
export function reasonOf(reason: string | null | undefined): string | null {
  return reason === undefined || reason === null || reason === "" || reason === "NONE" ? null : reason;
}

const noAccount = {
  ok: false,
  refused: false,
  reason: "The business account of the number is not known",
} as const;

export const createdSchema = z.object({
  id: z.coerce.string().min(1),
  status: z.string().min(1).default("PENDING"),
  category: z.string().min(1).optional(),
});

/** Hands a template in for review. An answer that never came may have made one all the same. */
export async function createMetaTemplate(
  rt: Runtime,
  connection: Connection,
  draft: TemplateDraft,
): Promise<ProviderResult<{ id: string; status: string; category: string | null }>> {
  if (connection.businessId === null) return noAccount;
  const answer = await callGraph(rt, {
    method: "POST",
    path: [connection.businessId, "message_templates"],
    body: {
      name: draft.name,
      language: draft.language,
      category: draft.category,
      parameter_format: draft.parameterFormat,
      components: draft.components,
    },
    accessToken: connection.accessToken,
  });
  return resultOf(answer, (body) => {
    const created = createdSchema.safeParse(body).data;
    return created && { id: created.id, status: created.status, category: created.category ?? null };
  });
}

const pageSchema = z.object({
  data: z.array(z.unknown()),
  paging: z
    .object({ cursors: z.object({ after: z.string().optional() }).optional(), next: z.string().optional() })
    .optional(),
});

/** One page of the account's templates. Meta's filter by name also finds names that only hold it. */
export async function listMetaTemplates(
  rt: Runtime,
  connection: Connection,
  query: { name: string | null; after: string | null },
): Promise<ProviderResult<TemplatePage>> {
  if (connection.businessId === null) return noAccount;
  const answer = await callGraph(rt, {
    method: "GET",
    path: [connection.businessId, "message_templates"],
    query: {
      fields: FIELDS,
      limit: String(PAGE),
      ...(query.name === null ? {} : { name: query.name }),
      ...(query.after === null ? {} : { after: query.after }),
    },
    accessToken: connection.accessToken,
  });
  return resultOf(answer, (body) => {
    const page = pageSchema.safeParse(body).data;
    if (!page) return undefined;
    const templates = listOf(page.data).flatMap((item) => templateSchema.safeParse(item).data ?? []);
    const more = page.paging?.next !== undefined;
    return {
      templates,
      unreadable: page.data.length - templates.length,
      after: more ? (page.paging?.cursors?.after ?? null) : null,
    };
  });
}

export async function getMetaTemplate(
  rt: Runtime,
  connection: Connection,
  id: string,
): Promise<ProviderResult<ProviderTemplate>> {
  const answer = await callGraph(rt, {
    method: "GET",
    path: [id],
    query: { fields: FIELDS },
    accessToken: connection.accessToken,
  });
  return resultOf(answer, (body) => templateSchema.safeParse(body).data);
}

/**
 * Changes an approved, rejected or paused template (facts 1.6). An approved one takes one edit a day and ten in 30
 * days, and keeps its category: Meta counts, and its refusal says so.
 */
export async function editMetaTemplate(
  rt: Runtime,
  connection: Connection,
  id: string,
  change: { components?: Record<string, unknown>[]; category?: string },
): Promise<ProviderResult<null>> {
  const answer = await callGraph(rt, { method: "POST", path: [id], body: change, accessToken: connection.accessToken });
  return resultOf(answer, () => null);
}

/** With its id only that language goes; the name alone would take every language. */
export async function deleteMetaTemplate(
  rt: Runtime,
  connection: Connection,
  template: { id: string; name: string },
): Promise<ProviderResult<null>> {
  if (connection.businessId === null) return noAccount;
  const answer = await callGraph(rt, {
    method: "DELETE",
    path: [connection.businessId, "message_templates"],
    query: { name: template.name, hsm_id: template.id },
    accessToken: connection.accessToken,
  });
  return resultOf(answer, () => null);
}
