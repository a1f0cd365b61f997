import type { OpenAPIHono } from "@hono/zod-openapi";

/** The document as the generator makes it. */
export type OpenApi = ReturnType<OpenAPIHono["getOpenAPI31Document"]>;
export type Schemas = NonNullable<NonNullable<OpenApi["components"]>["schemas"]>;
export type SchemaNode = Schemas[string];
type Reference = Extract<SchemaNode, { $ref: string }>;
type Schema = Exclude<SchemaNode, Reference>;

const REFERENCE = "#/components/schemas/";

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Text of a description: escaped, with `code` marked. */
export function prose(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

function isReference(node: SchemaNode): node is Reference {
  return "$ref" in node;
}

function nameOf(reference: Reference): string {
  return reference.$ref.slice(REFERENCE.length);
}

/** The id of a named schema's own section. */
export function anchorOf(name: string): string {
  return `schema-${name}`;
}

/** A schema as a type, in HTML: named ones as links, members one per line with what is said of them. */
export function typeOf(node: SchemaNode, indent = ""): string {
  if (isReference(node)) {
    const name = escapeHtml(nameOf(node));
    return `<a href="#${anchorOf(name)}">${name}</a>`;
  }
  if (node.allOf) return node.allOf.map((part) => typeOf(part, indent)).join(" &amp; ");
  const options = node.oneOf ?? node.anyOf;
  if (options) return options.map((part) => typeOf(part, indent)).join(" | ");
  if (node.enum) return node.enum.map((value) => escapeHtml(JSON.stringify(value))).join(" | ");
  const types = Array.isArray(node.type) ? node.type : [node.type];
  return types.map((type) => typeText(node, type, indent)).join(" | ");
}

function typeText(node: Schema, type: string | undefined, indent: string): string {
  switch (type) {
    case "array":
      return node.items ? `${grouped(typeOf(node.items, indent))}[]` : "any[]";
    case "object":
      return objectText(node, indent);
    case undefined:
      return "any";
    default:
      return type;
  }
}

function grouped(type: string): string {
  return type.includes(" | ") && !type.startsWith("{") ? `(${type})` : type;
}

function objectText(node: Schema, indent: string): string {
  const inner = `${indent}  `;
  const members = Object.entries(node.properties ?? {}).map(([name, member]) => {
    const optional = node.required?.includes(name) ? "" : "?";
    return `${inner}<b>${escapeHtml(name)}</b>${optional}: ${typeOf(member, inner)}${noteOf(member)}`;
  });
  const rest = node.additionalProperties;
  if (rest) members.push(`${inner}[name]: ${rest === true ? "any" : typeOf(rest, inner)}`);
  return members.length === 0 ? "{}" : `{\n${members.join("\n")}\n${indent}}`;
}

/** What else is said of a value, as a comment. */
function noteOf(node: SchemaNode): string {
  const note = [constraintsOf(node), "description" in node && node.description ? prose(node.description) : ""]
    .filter((part) => part !== "")
    .join(". ");
  return note === "" ? "" : ` <i>// ${note}</i>`;
}

/** Format, bounds and default in words, escaped; empty when there are none. */
export function constraintsOf(node: SchemaNode): string {
  if (isReference(node)) return "";
  const { format, minimum, maximum, minLength, maxLength, maxItems, default: fallback } = node;
  const parts: string[] = [];
  if (format !== undefined) parts.push(format);
  if (minimum !== undefined || maximum !== undefined) parts.push(`${minimum ?? ""}–${maximum ?? ""}`);
  if (minLength !== undefined || maxLength !== undefined) parts.push(`${minLength ?? 0}–${maxLength ?? ""} characters`);
  if (maxItems !== undefined) parts.push(`at most ${maxItems}`);
  if (fallback !== undefined) parts.push(`default ${JSON.stringify(fallback)}`);
  return escapeHtml(parts.join(", "));
}

/** A value that fits a schema, for an example call; `name` stands in for texts nothing is known of. */
export function exampleOf(schemas: Schemas, node: SchemaNode, name: string): unknown {
  if (isReference(node)) {
    const target = schemas[nameOf(node)];
    return target ? exampleOf(schemas, target, name) : null;
  }
  if (node.example !== undefined) return node.example;
  if (node.default !== undefined) return node.default;
  if (node.enum) return node.enum[0];
  const option = (node.oneOf ?? node.anyOf)?.[0];
  if (option) return exampleOf(schemas, option, name);
  if (node.allOf) return Object.assign({}, ...node.allOf.map((part) => exampleOf(schemas, part, name)));
  switch (Array.isArray(node.type) ? node.type[0] : node.type) {
    case "object":
      return exampleObject(schemas, node);
    case "array":
      return node.items ? [exampleOf(schemas, node.items, name)] : [];
    case "integer":
    case "number":
      return node.minimum ?? 1;
    case "boolean":
      return true;
    default:
      return name.toUpperCase();
  }
}

/** What must be given and what has an example; all of it when that is nothing. */
function exampleObject(schemas: Schemas, node: Schema): Record<string, unknown> {
  const all = Object.entries(node.properties ?? {});
  const shown = all.filter(([key, member]) => {
    return node.required?.includes(key) || (!isReference(member) && member.example !== undefined);
  });
  const members = (shown.length > 0 ? shown : all).map(([key, member]) => [key, exampleOf(schemas, member, key)]);
  return Object.fromEntries(members);
}
