import fc from "fast-check";
import { z } from "zod";
import type { OpenApiDocument } from "./openapi";

/**
 * Input for operations, from their own descriptions: what they ask for, what stands at the edge of it, and what nobody
 * asked for. Nothing here knows an operation.
 */

const node = z.looseObject({});
type SchemaNode = z.infer<typeof node>;

const facts = z.looseObject({
  $ref: z.string().optional(),
  type: z.union([z.string(), z.array(z.string())]).optional(),
  enum: z.array(z.unknown()).optional(),
  const: z.unknown().optional(),
  anyOf: z.array(node).optional(),
  oneOf: z.array(node).optional(),
  allOf: z.array(node).optional(),
  properties: z.record(z.string(), node).optional(),
  required: z.array(z.string()).optional(),
  additionalProperties: z.union([z.boolean(), node]).optional(),
  items: node.optional(),
  minItems: z.number().optional(),
  maxItems: z.number().optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
  minLength: z.number().optional(),
  maxLength: z.number().optional(),
  pattern: z.string().optional(),
  format: z.string().optional(),
});

/** Texts that programs stumble over. All are valid UTF-16; whether they are welcome is the operation's to say. */
const AWKWARD = [
  "",
  " ",
  "\u0000",
  "a\u0000b",
  "\ud800",
  "\ufeff",
  "\u202eabc",
  "👩‍👩‍👧‍👦",
  "é".normalize("NFD"),
  "%",
  "_",
  "'; DROP TABLE messages; --",
  '"',
  "\\",
  "*",
  'a" OR "b',
  "NEAR(a b)",
  "{{contact.name}}",
  "$(x)",
  "../../etc/passwd",
  "__proto__",
  "constructor",
  "null",
  "undefined",
  "NaN",
  "0",
  "-1",
  "1e400",
  "9007199254740993",
  "true",
  "2026-02-30T25:61:61Z",
  "9999-12-31T23:59:59Z",
  "-271821-04-20T00:00:00Z",
  "2026-11-20T10:00:00+14:00",
  "+1234567890",
  "+0",
  "00000000-0000-0000-0000-000000000000",
  "ffffffff-ffff-ffff-ffff-ffffffffffff",
  "https://example.com/",
  "javascript:alert(1)",
  "a@b.c",
  "=1+1",
  "x".repeat(5000),
];

const awkwardText = fc.constantFrom(...AWKWARD);
const anyText = fc.oneof(fc.string({ unit: "binary", maxLength: 40 }), awkwardText);

/** What JSON can say, broken and odd included. */
export const anyJson: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(null, true, false, 0, -0, -1, 1.5, 1e308, 2 ** 53, -(2 ** 53), [], {}, "", [[]], [null], { "": "" }),
  anyText,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constant(nested(500)),
);

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let n = 0; n < depth; n += 1) value = n % 2 === 0 ? [value] : { a: value };
  return value;
}

/**
 * Values of a schema of the document. Mostly they fit it; one leaf in ten is of the right kind and wrong, one in
 * twenty is anything. Ids are taken from `ids`, so that what is asked for often exists.
 */
export class Values {
  readonly #document: OpenApiDocument;
  readonly #ids: fc.Arbitrary<string>;

  constructor(document: OpenApiDocument, ids: readonly string[]) {
    this.#document = document;
    this.#ids = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...ids) }, { weight: 1, arbitrary: fc.uuid() });
  }

  of(schema: SchemaNode, depth = 0): fc.Arbitrary<unknown> {
    return fc.oneof(
      { weight: 19, arbitrary: this.#fitting(schema, depth) },
      { weight: 1, arbitrary: depth > 3 ? fc.constant(null) : anyJson },
    );
  }

  #fitting(raw: SchemaNode, depth: number): fc.Arbitrary<unknown> {
    const schema = facts.parse(raw);
    if (schema.$ref !== undefined) {
      const target = this.#document.components.schemas[schema.$ref.replace("#/components/schemas/", "")];
      return target ? this.#fitting(target, depth) : anyJson;
    }
    if (depth > 6) return fc.constant(null);
    const options = schema.anyOf ?? schema.oneOf;
    if (options) return fc.oneof(...options.map((option) => this.of(option, depth)));
    if (schema.allOf) {
      return fc
        .tuple(...schema.allOf.map((part) => this.#fitting(part, depth)))
        .map((parts) => Object.assign({}, ...parts.filter((part) => typeof part === "object")));
    }
    if ("const" in schema) return fc.constant(schema.const);
    if (schema.enum) return fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...schema.enum) }, anyText);
    const types = schema.type === undefined ? [] : [schema.type].flat();
    if (types.length === 0) return anyJson;
    return fc.oneof(...types.map((type) => this.#ofType(type, schema, depth)));
  }

  #ofType(type: string, schema: z.infer<typeof facts>, depth: number): fc.Arbitrary<unknown> {
    switch (type) {
      case "object":
        return this.#object(schema, depth);
      case "array": {
        const { minItems = 0, maxItems = minItems + 3 } = schema;
        const items = this.of(schema.items ?? {}, depth + 1);
        const few = fc.array(items, { minLength: minItems, maxLength: Math.min(maxItems, minItems + 3) });
        const edge = fc.array(items, { minLength: maxItems, maxLength: maxItems + 1 });
        return maxItems > 40 ? few : fc.oneof({ weight: 6, arbitrary: few }, { weight: 1, arbitrary: edge });
      }
      case "string":
        return this.#text(schema);
      case "integer":
      case "number": {
        const { minimum = -1000, maximum = minimum + 2000 } = schema;
        const inside = fc.integer({ min: Math.ceil(minimum), max: Math.max(Math.ceil(minimum), Math.floor(maximum)) });
        return fc.oneof(
          { weight: 8, arbitrary: inside },
          { weight: 1, arbitrary: fc.constantFrom(minimum, maximum, minimum - 1, maximum + 1, 0.5, 2 ** 53) },
        );
      }
      case "boolean":
        return fc.boolean();
      default:
        return fc.constant(null);
    }
  }

  #object(schema: z.infer<typeof facts>, depth: number): fc.Arbitrary<unknown> {
    const properties = schema.properties ?? {};
    const declared = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, this.of(property, depth + 1)]),
    );
    const known = fc.record(declared, { requiredKeys: schema.required ?? [] });
    const extra = fc.dictionary(anyText, depth > 2 ? anyText : anyJson, { maxKeys: 2 });
    return fc.oneof(
      { weight: 9, arbitrary: known },
      { weight: 1, arbitrary: fc.record(declared, { requiredKeys: [] }) },
      { weight: 1, arbitrary: fc.tuple(known, extra).map(([one, other]) => ({ ...one, ...other })) },
    );
  }

  #text({ format, pattern, minLength = 0, maxLength }: z.infer<typeof facts>): fc.Arbitrary<string> {
    const lengths = [minLength, minLength - 1, maxLength ?? 60, (maxLength ?? 60) + 1].filter(
      (n) => n >= 0 && n < 9000,
    );
    const edges = fc.constantFrom(...lengths).map((length) => "x".repeat(length));
    const fits =
      this.#textOfFormat(format) ?? (isId(pattern) ? this.#ids : textMatching(pattern, minLength, maxLength));
    return fc.oneof({ weight: 8, arbitrary: fits }, { weight: 1, arbitrary: edges }, { weight: 1, arbitrary: anyText });
  }

  #textOfFormat(format: string | undefined): fc.Arbitrary<string> | null {
    switch (format) {
      case "uuid":
        return this.#ids;
      case "date-time":
        return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
      case "email":
        return fc.emailAddress();
      case "uri":
        return fc.webUrl();
      default:
        return null;
    }
  }
}

function isId(pattern: string | undefined): boolean {
  return pattern?.includes("{8}-") ?? false;
}

function textMatching(
  pattern: string | undefined,
  minLength: number,
  maxLength = minLength + 40,
): fc.Arbitrary<string> {
  if (pattern === undefined) {
    const max = Math.max(minLength, Math.min(maxLength, minLength + 60));
    return fc.oneof(
      { weight: 3, arbitrary: fc.string({ minLength, maxLength: max }) },
      { weight: 1, arbitrary: fc.string({ unit: "grapheme", minLength, maxLength: max }) },
    );
  }
  try {
    return fc.stringMatching(new RegExp(pattern));
  } catch {
    // Not every pattern can be turned around; what does not match is input as well.
    return anyText;
  }
}

/** A text as a header may carry it. */
export const headerText = fc.string({ unit: fc.integer({ min: 32, max: 126 }).map((n) => String.fromCharCode(n)) });
