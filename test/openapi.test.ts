import { exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { api } from "../src/api";
import { keyMay, PERMISSIONS, type Permission } from "../src/auth/access";
import { call, newWorkspace } from "./support/identity";
import { breaches, loadDocument, type Operation, operationsOf } from "./support/openapi";

const document = await loadDocument();
const operations = operationsOf(document);
const named = operations.map((operation) => [operation.key, operation] as const);

const ERROR = { $ref: "#/components/schemas/Error" };

describe("the document", () => {
  it("is OpenAPI 3.1 and describes itself", () => {
    expect(document.openapi).toBe("3.1.0");
    expect(document.info.title).toBe("Switchboard");
    expect(document.tags.every(({ description }) => description.length > 10)).toBe(true);
    expect(document.components.securitySchemes).toMatchObject({
      bearer: { type: "http", scheme: "bearer" },
      apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
    });
  });

  it("is built once: later requests are served, or told that nothing changed", async () => {
    const build = vi.spyOn(api, "getOpenAPI31Document");
    const first = await call("GET", "/openapi.json");
    const etag = first.headers.get("ETag") ?? "";
    expect(first.headers.get("Cache-Control")).toBe("public, max-age=300");
    const second = await call("GET", "/openapi.json/");
    expect(second.headers.get("ETag")).toBe(etag);
    expect(await second.text()).toBe(await first.text());
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const unchanged = await call("GET", "/openapi.json", undefined, { "If-None-Match": known });
      expect([unchanged.status, await unchanged.text()]).toEqual([304, ""]);
      expect(unchanged.headers.get("ETag")).toBe(etag);
    }
    const changed = await call("GET", "/openapi.json", undefined, { "If-None-Match": '"other"' });
    expect(changed.status).toBe(200);
    await changed.body?.cancel();
    expect(build).not.toHaveBeenCalled();
    build.mockRestore();
  });

  it("refers to nothing that it does not hold", () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, target]) => target ?? "");
    expect(references.length).toBeGreaterThan(100);
    const known = Object.keys(document.components.schemas).map((name) => `#/components/schemas/${name}`);
    expect([...new Set(references)].filter((target) => !known.includes(target))).toEqual([]);
  });

  it("names every operation once, in words of its own", () => {
    const summaries = operations.map(({ summary }) => summary ?? "");
    expect(summaries.filter((summary, n) => summary.length < 6 || summaries.indexOf(summary) !== n)).toEqual([]);
  });
});

describe("an operation", () => {
  it.each(named)("%s says what it is, what it takes and what it answers", (_, operation) => {
    expect(operation.tags).toHaveLength(1);
    expect(document.tags.map(({ name }) => name)).toContain(operation.tags?.[0]);
    const statuses = Object.keys(operation.responses).map(Number);
    expect(statuses.some((status) => status < 400)).toBe(true);
    for (const [status, { description, content }] of Object.entries(operation.responses)) {
      expect(description.length).toBeGreaterThan(2);
      if (Number(status) >= 400) expect(content).toEqual({ "application/json": { schema: ERROR } });
      else if (![101, 202, 204, 304, 307].includes(Number(status)) && operation.method !== "HEAD")
        expect(Object.keys(content ?? {})).toHaveLength(1);
    }
    const inPath = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    const declared = operation.parameters.filter((parameter) => parameter.in === "path");
    expect(declared.map(({ name }) => name)).toEqual(inPath);
    expect(declared.every(({ required }) => required)).toBe(true);
  });

  it.each(named)("%s lists the refusals that follow from its protection and its input", (_, operation) => {
    const statuses = Object.keys(operation.responses).map(Number);
    expect(statuses).toEqual(expect.arrayContaining([500, 503]));
    // Headers alone are signatures and the like, judged by the operation itself.
    const takesInput = operation.parameters.some((p) => p.in !== "header") || operation.requestBody !== undefined;
    if (takesInput) expect(statuses).toContain(422);
    if (operation.requestBody) expect(statuses).toEqual(expect.arrayContaining([400, 413, 415]));
    switch (operation["x-access"]) {
      case "public":
        expect(operation.security).toBeUndefined();
        break;
      case "signed":
        expect(statuses).toContain(401);
        expect(operation.security).toBeUndefined();
        break;
      case "user":
        expect(statuses).toEqual(expect.arrayContaining([401, 403, 429]));
        expect(operation.security).toEqual([{ bearer: [] }]);
        break;
      case "workspace":
        expect(statuses).toEqual(expect.arrayContaining([401, 403, 404, 429]));
        break;
      default:
        expect.fail(`${operation.key} does not say how it is protected`);
    }
  });

  const guarded = named.filter(([, operation]) => operation["x-access"] === "workspace");
  it.each(guarded)("%s shows the roles of the one table, and whether keys may", (_, operation) => {
    const permission = z
      .custom<Permission>((value) => typeof value === "string" && value in PERMISSIONS)
      .parse(operation["x-permission"]);
    expect(operation["x-roles"]).toEqual(PERMISSIONS[permission]);
    expect(operation["x-api-key"]).toBe(keyMay(permission));
    expect(operation.security).toEqual([{ bearer: [] }, ...(keyMay(permission) ? [{ apiKey: [] }] : [])]);
  });

  it("that sends takes an Idempotency-Key; one that lists takes limit and offset", () => {
    const has = (operation: Operation, place: string, ...names: string[]) =>
      names.every((name) => operation.parameters.some((p) => p.in === place && p.name.toLowerCase() === name));
    const sends = operations.filter(({ path }) => path.includes("/send/"));
    expect(sends.length).toBeGreaterThan(0);
    expect(sends.filter((operation) => !has(operation, "header", "idempotency-key"))).toEqual([]);
    const lists = operations.filter(({ responses }) => JSON.stringify(responses["200"] ?? {}).includes("next_cursor"));
    expect(lists.length).toBeGreaterThan(4);
    expect(lists.filter((operation) => !has(operation, "query", "limit", "offset", "cursor"))).toEqual([]);
  });
});

describe("the check of answers that the walk uses", () => {
  let operation: Operation;
  let answer: Record<string, unknown>;
  beforeAll(async () => {
    const found = operations.find(({ key }) => key === "GET /api/workspaces/{workspace_id}");
    if (!found) throw new Error("The operation is gone");
    operation = found;
    const workspace = await newWorkspace();
    const response = await workspace.call("GET", `/api/workspaces/${workspace.workspaceId}`);
    answer = z.record(z.string(), z.unknown()).parse(await response.json());
  });
  const checked = (body: unknown, status = 200) => breaches(document, operation, Response.json(body, { status }));

  it("finds nothing in a right answer", async () => {
    expect(await checked(answer)).toEqual([]);
  });

  it("finds what is missing, wrong, undeclared or undocumented", async () => {
    const { name: _, ...nameless } = answer;
    const key = operation.key;
    expect(await checked(nameless)).toEqual([`${key} 200 /name is missing`]);
    expect(await checked({ ...answer, password_hash: "x" })).toEqual([`${key} 200 /password_hash is not declared`]);
    expect(await checked({ ...answer, name: 7 })).toEqual([`${key} 200 /name is 7, not string`]);
    expect(await checked({ ...answer, plan: "gold" })).toEqual([`${key} 200 /plan is not one of free,pro,enterprise`]);
    expect(await checked({ ...answer, created_at: "2026-01-01T00:00:00.123Z" })).toHaveLength(1);
    expect(await checked({ ...answer, id: "1" })).toHaveLength(1);
    expect(await checked(answer, 418)).toEqual([`${key} answers 418, which is not documented`]);
    expect(await checked({ detail: "x", code: "unheard_of", request_id: "1" }, 404)).toHaveLength(1);
    const page = new Response("<html>", { headers: { "Content-Type": "text/html" } });
    expect(await breaches(document, operation, page)).toEqual([`${key} 200 is text/html, which is not documented`]);
  });
});

describe("the readable page", () => {
  interface Page {
    response: Response;
    html: string;
    ids: string[];
    links: string[];
    elements: Set<string>;
    attributes: Set<string>;
    style: string;
  }
  let page: Page;

  beforeAll(async () => {
    const response = await exports.default.fetch("http://switchboard.test/docs/");
    page = { response, html: "", ids: [], links: [], elements: new Set(), attributes: new Set(), style: "" };
    const walked = new HTMLRewriter()
      .on("*", {
        element(element) {
          page.elements.add(element.tagName);
          for (const [name = "", value = ""] of element.attributes) {
            page.attributes.add(name);
            if (name === "id") page.ids.push(value);
            if (name === "href") page.links.push(value);
          }
        },
      })
      .on("style", {
        text(chunk) {
          page.style += chunk.text;
        },
      })
      .transform(response);
    page.html = await walked.text();
  });

  it("needs nothing from anywhere, and its policy allows nothing but its own style", async () => {
    const { response, elements, attributes, links, style } = page;
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Type")).toBe("text/html; charset=utf-8");
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style));
    const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
    expect(response.headers.get("Content-Security-Policy")).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    expect(response.headers.get("X-Content-Type-Options")).toBe("nosniff");
    for (const element of ["script", "link", "img", "iframe", "form", "object"])
      expect(elements).not.toContain(element);
    for (const name of ["src", "style", "onclick"]) expect(attributes).not.toContain(name);
    expect(links.filter((link) => !link.startsWith("#") && link !== "/openapi.json")).toEqual([]);
    expect(style).not.toMatch(/url\(|@import/);
  });

  it("shows every operation with who may call it, and every schema, each link leading somewhere", () => {
    const { html, ids, links } = page;
    expect(new Set(ids).size).toBe(ids.length);
    expect(links.filter((link) => link.startsWith("#") && !ids.includes(link.slice(1)))).toEqual([]);
    for (const { method, path, summary } of operations) {
      expect(html).toContain(`<span class="method">${method}</span><code>${path}</code>`);
      expect(html).toContain((summary ?? "").replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("`", ""));
    }
    expect(html).toContain("For <strong>OWNER, ADMIN</strong>; not with an API key.");
    expect(html).toContain("Needs no credentials but a proof of its own: provider.");
    for (const name of Object.keys(document.components.schemas)) expect(ids).toContain(`schema-${name}`);
  });

  it("gives examples that can be pasted into a shell", () => {
    const blocks = page.html.split("<pre>").map((part) => part.split("</pre>")[0]?.replaceAll("&quot;", '"') ?? "");
    const example = blocks.find((block) => block.startsWith("curl -X POST 'https://YOUR_HOST/api/messages/send/text'"));
    expect(example).toContain("-H 'Authorization: Bearer YOUR_ACCESS_TOKEN'");
    const json = example?.split("-d '")[1]?.slice(0, -1) ?? "";
    expect(JSON.parse(json)).toEqual({ to: "+1234567890", text: "Hello! Thanks for contacting us." });
  });

  it("is small, and is not sent again when nothing changed", async () => {
    expect(page.html.length).toBeLessThan(256 * 1024);
    const known = { "If-None-Match": page.response.headers.get("ETag") ?? "" };
    expect((await call("GET", "/docs", undefined, known)).status).toBe(304);
  });
});
