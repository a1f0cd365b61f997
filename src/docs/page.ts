import { z } from "zod";
import {
  anchorOf,
  constraintsOf,
  escapeHtml,
  exampleOf,
  type OpenApi,
  prose,
  type SchemaNode,
  type Schemas,
  typeOf,
} from "./schema-view";

/** Everything the page looks like. Its hash stands in the Content-Security-Policy, which allows nothing else. */
export const STYLE = `
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--link:light-dark(#0b57d0,#8ab4f8);--note:light-dark(#555,#aaa)}
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,sans-serif}
a{color:var(--link)}
code,pre{font:13px/1.5 ui-monospace,monospace}
pre{margin:.5rem 0;padding:.75rem;background:var(--soft);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere}
pre i{color:var(--note)}
.skip{position:absolute;left:-999px}.skip:focus{left:1rem;top:1rem}
nav{padding:1rem;border-bottom:1px solid var(--line)}
nav ul{list-style:none;margin:0 0 .75rem;padding:0}
nav a{text-decoration:none}
main{padding:1rem;max-width:60rem;min-width:0}
article{margin:2rem 0;padding-top:1rem;border-top:1px solid var(--line)}
h3{margin:0 0 .25rem;font-size:1.05rem}
h4{margin:1rem 0 .25rem}
.method{display:inline-block;min-width:4.2em;font-weight:700}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
@media(min-width:60rem){body{display:grid;grid-template-columns:20rem minmax(0,1fr)}nav{height:100vh;position:sticky;top:0;overflow:auto;border-bottom:0;border-right:1px solid var(--line)}}
`;

const METHODS = ["get", "head", "post", "put", "patch", "delete"] as const;

type Paths = NonNullable<OpenApi["paths"]>;
type Operation = NonNullable<Paths[string]["get"]>;

interface Entry {
  method: string;
  path: string;
  operation: Operation;
}

/** What an operation says of its protection (auth/operation). */
const protection = z.object({
  "x-access": z.enum(["public", "signed", "user", "workspace"]),
  "x-signed-by": z.string().optional(),
  "x-roles": z.array(z.string()).default([]),
  "x-api-key": z.boolean().default(false),
});

/** The document as one page that needs nothing but itself: no script, no font, no other address. */
export function renderPage(document: OpenApi): string {
  const schemas = document.components?.schemas ?? {};
  const entries = entriesOf(document.paths ?? {});
  const tags = (document.tags ?? []).map(({ name, description }) => ({
    name,
    description: description ?? "",
    entries: entries.filter(({ operation }) => operation.tags?.[0] === name),
  }));
  const title = escapeHtml(document.info.title);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} API</title>
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<nav aria-label="Operations">
<p><strong>${title} API</strong> ${escapeHtml(document.info.version)} · <a href="/openapi.json">openapi.json</a></p>
${tags.map(renderMenu).join("\n")}
<p><a href="#schemas">Schemas</a></p>
</nav>
<main id="content">
<h1>${title} API</h1>
${(document.info.description ?? "")
  .split("\n\n")
  .map((part) => `<p>${prose(part)}</p>`)
  .join("\n")}
${tags.map((tag) => renderTag(tag, schemas)).join("\n")}
<h2 id="schemas">Schemas</h2>
${Object.entries(schemas).map(renderSchema).join("\n")}
</main>
</body>
</html>
`;
}

function entriesOf(paths: Paths): Entry[] {
  return Object.entries(paths).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method];
      return operation ? [{ method: method.toUpperCase(), path, operation }] : [];
    }),
  );
}

function idOf({ method, path }: Entry): string {
  return `${method.toLowerCase()}${path.replaceAll(/[^a-z0-9]+/gi, "-").replace(/-$/, "")}`;
}

interface Tag {
  name: string;
  description: string;
  entries: Entry[];
}

function renderMenu({ name, entries }: Tag): string {
  const links = entries.map((entry) => {
    const summary = escapeHtml(entry.operation.summary ?? entry.path);
    return `<li><a href="#${idOf(entry)}">${summary}</a></li>`;
  });
  return `<strong>${escapeHtml(name)}</strong>\n<ul>\n${links.join("\n")}\n</ul>`;
}

function renderTag(tag: Tag, schemas: Schemas): string {
  const articles = tag.entries.map((entry) => renderOperation(entry, schemas));
  return `<section>\n<h2>${escapeHtml(tag.name)}</h2>\n<p>${prose(tag.description)}</p>\n${articles.join("\n")}\n</section>`;
}

function renderOperation(entry: Entry, schemas: Schemas): string {
  const { method, path, operation } = entry;
  const body = bodyOf(operation);
  return `<article id="${idOf(entry)}">
<h3><span class="method">${method}</span><code>${escapeHtml(path)}</code></h3>
<p>${prose(operation.summary ?? "")}${operation.description ? `. ${prose(operation.description)}` : ""}</p>
<p>${accessText(operation)}</p>
${parameterTable(operation)}
${body ? `<h4>Body${body.required ? "" : " (optional)"}</h4>\n<pre>${typeOf(body.schema)}</pre>` : ""}
<h4>Answers</h4>
${responseTable(operation)}
<h4>Example</h4>
<pre>${escapeHtml(curlOf(entry, schemas))}</pre>
</article>`;
}

/** Who may call, in words. */
function accessText(operation: Operation): string {
  const { "x-access": access, "x-signed-by": by, "x-roles": roles, "x-api-key": key } = protection.parse(operation);
  switch (access) {
    case "public":
      return "Needs no credentials.";
    case "signed":
      return `Needs no credentials but a proof of its own: ${escapeHtml((by ?? "").replaceAll("_", " "))}.`;
    case "user":
      return "For signed-in users; not with an API key.";
    case "workspace":
      return `For <strong>${roles.join(", ")}</strong>; ${key ? "also" : "not"} with an API key.`;
  }
}

function bodyOf(operation: Operation): { required: boolean; schema: SchemaNode } | null {
  const body = operation.requestBody;
  if (!body || "$ref" in body) return null;
  const schema = Object.values(body.content)[0]?.schema;
  return schema ? { required: body.required ?? false, schema } : null;
}

function parametersOf(operation: Operation) {
  return (operation.parameters ?? []).flatMap((parameter) => ("$ref" in parameter ? [] : [parameter]));
}

function parameterTable(operation: Operation): string {
  const rows = parametersOf(operation).map(({ name, in: place, required, description, schema }) => {
    const notes = [schema ? constraintsOf(schema) : "", prose(description ?? "")].filter((note) => note !== "");
    const cells = [
      `<code>${escapeHtml(name)}</code>`,
      place,
      `${schema ? typeOf(schema) : "any"}${required ? "" : ", optional"}`,
      notes.join(". "),
    ];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  if (rows.length === 0) return "";
  return `<h4>Parameters</h4>\n<table><tr><th>Name</th><th>In</th><th>Type</th><th></th></tr>\n${rows.join("\n")}\n</table>`;
}

function responseTable(operation: Operation): string {
  const responses: Record<string, { description: string; content?: Record<string, { schema?: SchemaNode }> }> =
    operation.responses ?? {};
  const rows = Object.entries(responses).map(([status, { description, content }]) => {
    const [mediaType, media] = Object.entries(content ?? {})[0] ?? [];
    const schema = media?.schema;
    const shown = !schema ? "" : mediaType === "application/json" ? typeOf(schema) : escapeHtml(mediaType ?? "");
    const type = shown.includes("\n") ? `<pre>${shown}</pre>` : shown;
    return `<tr><td>${escapeHtml(status)}</td><td>${prose(description)}</td><td>${type}</td></tr>`;
  });
  return `<table>\n${rows.join("\n")}\n</table>`;
}

/** A call that can be pasted into a shell; what stands in capitals or braces is yours to fill in. */
function curlOf({ method, path, operation }: Entry, schemas: Schemas): string {
  const query = parametersOf(operation)
    .filter((parameter) => parameter.in === "query" && parameter.required)
    .map(({ name, schema }) => `${name}=${schema ? exampleOf(schemas, schema, name) : name.toUpperCase()}`);
  const url = `https://YOUR_HOST${path}${query.length > 0 ? `?${query.join("&")}` : ""}`;
  const lines = [`curl${method === "GET" ? "" : ` -X ${method}`} '${url}'`];
  if (operation.security) lines.push("-H 'Authorization: Bearer YOUR_ACCESS_TOKEN'");
  const body = bodyOf(operation);
  if (body) {
    const json = JSON.stringify(exampleOf(schemas, body.schema, "value"), null, 2);
    lines.push("-H 'Content-Type: application/json'", `-d '${json.replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function renderSchema([name, schema]: [string, SchemaNode]): string {
  return `<article id="${escapeHtml(anchorOf(name))}">\n<h3>${escapeHtml(name)}</h3>\n<pre>${typeOf(schema)}</pre>\n</article>`;
}
