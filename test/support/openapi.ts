import { exports } from "cloudflare:workers";
import { z } from "zod";

/** The OpenAPI document as a client reads it, and whether answers keep what it promises. */

const schemaNode = z.looseObject({});
type SchemaNode = z.infer<typeof schemaNode>;

const mediaTypes = z.record(z.string(), z.looseObject({ schema: schemaNode.optional() }));

const operationSchema = z.looseObject({
  summary: z.string().optional(),
  description: z.string().optional(),
  tags: z.array(z.string()).optional(),
  parameters: z
    .array(z.looseObject({ name: z.string(), in: z.string(), required: z.boolean().optional(), schema: schemaNode }))
    .default([]),
  requestBody: z.looseObject({ required: z.boolean().optional(), content: mediaTypes }).optional(),
  responses: z.record(z.string(), z.looseObject({ description: z.string(), content: mediaTypes.optional() })),
  security: z.array(z.record(z.string(), z.array(z.string()))).optional(),
  "x-access": z.string().optional(),
  "x-permission": z.string().optional(),
  "x-roles": z.array(z.string()).optional(),
  "x-api-key": z.boolean().optional(),
  "x-item": z.boolean().optional(),
  "x-signed-by": z.string().optional(),
});

const documentSchema = z.looseObject({
  openapi: z.string(),
  info: z.looseObject({ title: z.string(), version: z.string(), description: z.string() }),
  tags: z.array(z.object({ name: z.string(), description: z.string() })),
  paths: z.record(
    z.string(),
    z.record(z.enum(["get", "head", "post", "put", "patch", "delete"]), operationSchema.optional()),
  ),
  components: z.object({
    schemas: z.record(z.string(), schemaNode),
    securitySchemes: z.record(z.string(), z.looseObject({ type: z.string() })),
  }),
});

export type OpenApiDocument = z.infer<typeof documentSchema>;

export interface Operation extends z.infer<typeof operationSchema> {
  /** `GET /api/messages/{message_id}` */
  key: string;
  method: string;
  path: string;
}

export async function loadDocument(): Promise<OpenApiDocument> {
  const response = await exports.default.fetch("http://switchboard.test/openapi.json");
  return documentSchema.parse(await response.json());
}

export function operationsOf(document: OpenApiDocument): Operation[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([name, operation]) => {
      const method = name.toUpperCase();
      return operation ? [{ ...operation, key: `${method} ${path}`, method, path }] : [];
    }),
  );
}

/** What of an answer the document does not promise: its status, its media type, members missing, wrong or undeclared. */
export async function breaches(document: OpenApiDocument, operation: Operation, response: Response): Promise<string[]> {
  const { status } = response;
  const promised = operation.responses[status];
  if (!promised) return [`${operation.key} answers ${status}, which is not documented`];
  if (status === 101) return [];
  if (operation.method === "HEAD") {
    return (await response.text()) === "" ? [] : [`${operation.key} ${status} has a body`];
  }
  const declared = Object.entries(promised.content ?? {});
  const mediaType = response.headers.get("Content-Type")?.split(";")[0] ?? null;
  if (declared.length === 0) {
    return (await response.text()) === "" ? [] : [`${operation.key} ${status} has a body, which is not documented`];
  }
  const found = declared.find(([name]) => name === mediaType || name === "*/*");
  if (!found) return [`${operation.key} ${status} is ${mediaType}, which is not documented`];
  if (mediaType !== "application/json") {
    await response.body?.cancel();
    return [];
  }
  const schema = found[1].schema ?? {};
  return misfits(document, schema, await response.json(), "").map((text) => `${operation.key} ${status} ${text}`);
}

const nodes = z.array(schemaNode);
const nodeRecord = z.record(z.string(), schemaNode);

/**
 * A check of JSON Schema as far as our document uses it, stricter in one point: members that are not declared are
 * misfits, because what nobody declared nobody meant to publish.
 */
function misfits(document: OpenApiDocument, node: SchemaNode, value: unknown, at: string): string[] {
  const schema = flattened(document, node);
  const options = nodes.optional().parse(schema.anyOf ?? schema.oneOf);
  if (options) {
    const tries = options.map((option) => misfits(document, option, value, at));
    return tries.some((found) => found.length === 0) ? [] : (tries.sort((a, b) => a.length - b.length)[0] ?? []);
  }
  if ("const" in schema && schema.const !== value) return [`${at} is not ${JSON.stringify(schema.const)}`];
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) return [`${at} is not one of ${schema.enum}`];
  if (schema.type === undefined) return [];
  const types = [schema.type].flat();
  const type = types.find((name) => isOfType(value, String(name)));
  switch (type) {
    case undefined:
      return [`${at} is ${JSON.stringify(value)?.slice(0, 80)}, not ${types.join(" or ")}`];
    case "object":
      return memberMisfits(document, schema, z.record(z.string(), z.unknown()).parse(value), at);
    case "array": {
      const items = schemaNode.parse(schema.items ?? {});
      return z
        .array(z.unknown())
        .parse(value)
        .flatMap((item, n) => misfits(document, items, item, `${at}/${n}`));
    }
    case "string":
      return textMisfits(schema, String(value), at);
    case "integer":
    case "number": {
      const { minimum = -Infinity, maximum = Infinity } = z
        .looseObject({ minimum: z.number().optional(), maximum: z.number().optional() })
        .parse(schema);
      return Number(value) < minimum || Number(value) > maximum ? [`${at} is out of range`] : [];
    }
    default:
      return [];
  }
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value);
    default:
      return typeof value === type;
  }
}

function memberMisfits(
  document: OpenApiDocument,
  schema: SchemaNode,
  value: Record<string, unknown>,
  at: string,
): string[] {
  const properties = nodeRecord.parse(schema.properties ?? {});
  const required = z.array(z.string()).parse(schema.required ?? []);
  const rest = schema.additionalProperties;
  return [
    ...required.filter((name) => !(name in value)).map((name) => `${at}/${name} is missing`),
    ...Object.entries(value).flatMap(([name, member]) => {
      const declared = properties[name];
      if (declared) return misfits(document, declared, member, `${at}/${name}`);
      if (rest === undefined || rest === false) return [`${at}/${name} is not declared`];
      return rest === true ? [] : misfits(document, schemaNode.parse(rest), member, `${at}/${name}`);
    }),
  ];
}

const FORMATS: Record<string, RegExp> = {
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  // Whole seconds (contract 2).
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
  email: /^[^@\s]+@[^@\s]+$/,
  uri: /^https?:\/\//,
};

function textMisfits(schema: SchemaNode, value: string, at: string): string[] {
  const { pattern, format } = z
    .looseObject({ pattern: z.string().optional(), format: z.string().optional() })
    .parse(schema);
  // A format says more plainly what its generated pattern says, and narrower for times.
  const expected = format === undefined ? (pattern === undefined ? undefined : new RegExp(pattern)) : FORMATS[format];
  if (!expected) return format === undefined ? [] : [`${at} has a format nobody checks: ${format}`];
  return expected.test(value) ? [] : [`${at} is ${JSON.stringify(value)}, which does not match ${format ?? pattern}`];
}

/** Follows references and unites the parts of `allOf`, so that their members count as declared together. */
function flattened(document: OpenApiDocument, node: SchemaNode): SchemaNode {
  if (typeof node.$ref === "string") {
    const target = document.components.schemas[node.$ref.replace("#/components/schemas/", "")];
    if (!target) throw new Error(`The document has no ${node.$ref}`);
    return flattened(document, target);
  }
  if (node.allOf === undefined) return node;
  const parts = nodes.parse(node.allOf).map((part) => flattened(document, part));
  const united: SchemaNode = Object.assign({}, ...parts);
  united.properties = Object.assign({}, ...parts.map((part) => part.properties));
  united.required = parts.flatMap((part) => z.array(z.string()).parse(part.required ?? []));
  return united;
}
