import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { api } from "../src/api";
import { newUuid } from "../src/platform/ids";
import { call, newWorkspace, type TestWorkspace } from "./support/identity";
import { loadDocument, operationsOf } from "./support/openapi";
import { newWorld, type World } from "./support/operations";

const JSON_TYPE = { "Content-Type": "application/json" };

const refusal = z.looseObject({ detail: z.unknown(), code: z.string(), request_id: z.uuid() });
const fields = z.array(z.strictObject({ loc: z.array(z.string()), msg: z.string(), type: z.literal("value_error") }));

/** Status, text and code of a refusal. */
async function refused(response: Response): Promise<[number, unknown, string]> {
  expect(response.headers.get("Content-Type")).toBe("application/json");
  const { detail, code, request_id } = refusal.parse(await response.json());
  expect(request_id).toBe(response.headers.get("X-Request-Id"));
  return [response.status, detail, code];
}

/** Where a 422 says the fault lies. */
async function faults(response: Response): Promise<string[]> {
  const [status, detail, code] = await refused(response);
  expect([status, code]).toEqual([422, "validation"]);
  return fields.parse(detail).map(({ loc }) => loc.join("."));
}

/** The Worker with other bindings or settings. */
function fetchWith(settings: Record<string, unknown>, path: string, init?: RequestInit): Promise<Response> {
  const bindings = { ...env, ...settings } as Env;
  return Promise.resolve(
    api.fetch(new Request(`http://switchboard.test${path}`, init), bindings, createExecutionContext()),
  );
}

let workspace: TestWorkspace;
let world: World;
beforeAll(async () => {
  [workspace, world] = await Promise.all([newWorkspace(), newWorld()]);
});

describe("addresses", () => {
  it("answer with and without a trailing slash, whatever the operation", async () => {
    for (const { key, method, path } of operationsOf(await loadDocument())) {
      const concrete = path.replaceAll(/\{\w+\}/g, newUuid());
      const [plain, slashed] = await Promise.all([call(method, concrete), call(method, `${concrete}/`)]);
      expect([plain.status, slashed.status], key).not.toContain(404);
      expect(slashed.status, key).toBe(plain.status);
      await Promise.all([plain.body?.cancel(), slashed.body?.cancel()]);
    }
  });

  it("that do not exist are the documented 404", async () => {
    const paths = ["/", "/api", "/api/nothing", "/api/workspaces/a/b/c/d", "/%E0%A4%A", "/webhooks/nothing", "/docs/a"];
    for (const path of paths) {
      for (const method of ["GET", "POST"]) {
        expect(await refused(await call(method, path)), path).toEqual([404, "Resource not found", "not_found"]);
      }
    }
  });

  it("name what they take when the method is another one", async () => {
    const cases: [string, string, string][] = [
      ["GET", "/api/auth/signin", "POST"],
      ["PUT", "/api/workspaces/", "GET, POST"],
      ["POST", `/api/workspaces/${newUuid()}`, "GET, PATCH, DELETE"],
      ["DELETE", "/webhook", "GET, POST"],
      ["POST", "/docs", "GET"],
    ];
    for (const [method, path, allowed] of cases) {
      const response = await call(method, path);
      expect(response.headers.get("Allow"), path).toBe(allowed);
      expect(await refused(response)).toEqual([405, `This path takes ${allowed}`, "method_not_allowed"]);
    }
  });

  it("answer HEAD as GET without a body", async () => {
    for (const path of ["/api/workspaces", "/openapi.json", "/api/nothing"]) {
      const [head, get] = await Promise.all([workspace.call("HEAD", path), workspace.call("GET", path)]);
      expect(head.status).toBe(get.status);
      expect(head.headers.get("Content-Type")).toBe(get.headers.get("Content-Type"));
      expect(head.headers.get("X-Total-Count")).toBe(get.headers.get("X-Total-Count"));
      expect(head.headers.has("X-Request-Id")).toBe(true);
      expect(await head.text()).toBe("");
      await get.body?.cancel();
    }
  });
});

describe("any web page may call the API, without cookies", () => {
  const origin = { Origin: "https://shop.example.com" };
  const list = (response: Response, name: string) =>
    (response.headers.get(name) ?? "").split(",").map((part) => part.trim().toLowerCase());

  it("preflights are answered for every path and every header of ours", async () => {
    for (const path of [
      "/api/messages/send/text",
      "/api/auth/signin/",
      `/api/messages/${newUuid()}`,
      "/openapi.json",
    ]) {
      const response = await call("OPTIONS", path, undefined, {
        ...origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
      });
      expect(response.status).toBe(204);
      expect(response.headers.get("Access-Control-Allow-Origin")).toBe("*");
      expect(response.headers.has("Access-Control-Allow-Credentials")).toBe(false);
      expect(list(response, "Access-Control-Allow-Methods")).toEqual(
        expect.arrayContaining(["get", "post", "put", "patch", "delete"]),
      );
      expect(list(response, "Access-Control-Allow-Headers")).toEqual(
        expect.arrayContaining([
          "authorization",
          "content-type",
          "x-api-key",
          "x-workspace-id",
          "idempotency-key",
          "x-d1-bookmark",
          "last-event-id",
        ]),
      );
      expect(response.headers.has("X-Request-Id")).toBe(true);
    }
  });

  it("answers and refusals can be read, with the headers that matter", async () => {
    const answers = await Promise.all([
      workspace.call("GET", "/api/messages", undefined, origin),
      call("GET", "/api/messages", undefined, origin),
      call("GET", "/api/nothing", undefined, origin),
      call("POST", "/api/auth/signin", "{", { ...origin, ...JSON_TYPE }),
      fetchWith({ SECRET_KEY: "" }, "/api/messages", { headers: origin }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 401, 404, 400, 500]);
    for (const response of answers) {
      expect(response.headers.get("Access-Control-Allow-Origin")).toBe("*");
      expect(response.headers.has("Access-Control-Allow-Credentials")).toBe(false);
      expect(list(response, "Access-Control-Expose-Headers")).toEqual(
        expect.arrayContaining([
          "x-total-count",
          "x-request-id",
          "x-d1-bookmark",
          "ratelimit-limit",
          "ratelimit-remaining",
          "ratelimit-reset",
          "retry-after",
          "idempotency-replayed",
        ]),
      );
      expect(response.headers.get("X-Request-Id")).toMatch(/^[0-9a-f-]{36}$/);
      await response.body?.cancel();
    }
    expect(new Set(answers.map((response) => response.headers.get("X-Request-Id"))).size).toBe(answers.length);
  });
});

describe("a body", () => {
  const path = "/api/auth/signup";

  it("that is no JSON is a 400", async () => {
    for (const body of ["{", "", "{'a':1}", '{"a":1}}', "\u0000", '{ "email": "a@b.c", // no comments\n }']) {
      const [status, , code] = await refused(await call("POST", path, body, JSON_TYPE));
      expect([status, code], body).toEqual([400, "malformed"]);
    }
  });

  it("of another type is a 415, not a call without fields", async () => {
    const json = JSON.stringify({ name: "Renamed" });
    const at = `/api/workspaces/${workspace.workspaceId}`;
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"]) {
      const response = await workspace.call("PATCH", at, json, { "Content-Type": type });
      expect(await refused(response)).toEqual([
        415,
        "The Content-Type is not one that this operation takes",
        "unsupported_media_type",
      ]);
    }
    const typed = await workspace.call("PATCH", at, json, { "Content-Type": "application/json; charset=utf-8" });
    expect(typed.status).toBe(200);
  });

  it("that is JSON but not an object, or none at all, is a 422", async () => {
    for (const body of ["[]", "null", "1", '"text"']) {
      expect(await faults(await call("POST", path, body, JSON_TYPE)), body).toEqual(["body"]);
    }
    expect(await faults(await call("POST", path))).toEqual(["body.email", "body.password"]);
  });

  it("may be left out where it is optional, also by clients that name JSON on every call", async () => {
    const read = `/api/conversations/${world.conversationId}/read`;
    expect((await world.owner.call("POST", read)).status).toBe(200);
    expect((await world.owner.call("POST", read, undefined, JSON_TYPE)).status).toBe(200);
    expect((await world.owner.call("POST", read, "{", JSON_TYPE)).status).toBe(400);
  });

  it("over a megabyte is a 413, whether or not its length was declared", async () => {
    const text = JSON.stringify({ name: "x".repeat(1024 * 1024) });
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        const bytes = new TextEncoder().encode(text);
        for (let at = 0; at < bytes.length; at += 65_536) controller.enqueue(bytes.slice(at, at + 65_536));
        controller.close();
      },
    });
    for (const body of [text, stream]) {
      const response = await workspace.call("POST", "/api/workspaces", body, JSON_TYPE);
      const [status, , code] = await refused(response);
      expect([status, code]).toEqual([413, "too_large"]);
    }
  });

  it("of strange but valid text is kept or refused, never an internal error", async () => {
    const deep = `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`;
    const at = `/api/workspaces/${workspace.workspaceId}`;
    const bodies = [
      '{"name":"\\u0000"}',
      '{"name":"\\ud800"}',
      `{"name":"${"𝔸".repeat(100)}"}`,
      '{"__proto__":{"name":"x"},"constructor":{"prototype":{"name":"y"}}}',
      '{"settings":{"__proto__":{"admin":true}}}',
      `{"settings":{"deep":${deep}}}`,
    ];
    for (const body of bodies) {
      const response = await workspace.call("PATCH", at, body, JSON_TYPE);
      expect([200, 422], `${body.slice(0, 60)} ${response.status}`).toContain(response.status);
      await response.body?.cancel();
    }
    expect((await workspace.call("GET", at)).status).toBe(200);
    const send = { phone_number_id: world.phoneNumberId, to: "+12025550123", text: "\ud800 \u0000 𝔸" };
    const sent = await world.owner.call("POST", "/api/messages/send/text", send);
    expect(sent.status).toBe(201);
  });
});

describe("a value that is not valid", () => {
  it("names its place and is never clamped", async () => {
    const lists = [
      "/api/messages",
      "/api/conversations",
      "/api/phone-numbers",
      "/api/webhook-events",
      "/api/dead-letters",
      "/api/workspaces",
      `/api/workspaces/${workspace.workspaceId}/members`,
    ];
    for (const path of lists) {
      for (const limit of ["0", "101", "-1", "1.5", "1e1", "ten", "", "+5", "05", "1&limit=2"]) {
        expect(await faults(await workspace.call("GET", `${path}?limit=${limit}`)), `${path} ${limit}`).toEqual([
          "query.limit",
        ]);
      }
      for (const offset of ["-1", "x", "1.5", "9999999999999999"]) {
        expect(await faults(await workspace.call("GET", `${path}?offset=${offset}`)), path).toEqual(["query.offset"]);
      }
      for (const limit of ["1", "100"])
        expect((await workspace.call("GET", `${path}?limit=${limit}`)).status).toBe(200);
      expect((await workspace.call("GET", `${path}?offset=100000`)).status, path).toBe(200);
    }
  });

  it("is a malformed id, in path, query or body", async () => {
    for (const id of ["1", "workspace-uuid", `${newUuid()}0`, newUuid().replaceAll("-", "")]) {
      expect(await faults(await workspace.call("GET", `/api/messages/${id}`))).toEqual(["path.message_id"]);
      expect(await faults(await workspace.call("GET", `/api/messages?workspace_id=${id}`))).toEqual([
        "query.workspace_id",
      ]);
      const ticket = await workspace.call("POST", "/api/realtime/tickets", { workspace_id: id });
      expect(await faults(ticket)).toEqual(["body.workspace_id"]);
    }
    const upper = await workspace.call("GET", `/api/workspaces/${workspace.workspaceId.toUpperCase()}`);
    expect(upper.status).toBe(200);
  });

  it("is an unknown word, a boolean that is none, a broken time or cursor", async () => {
    const queries: [string, string][] = [
      ["/api/messages?status=gone", "query.status"],
      ["/api/messages?direction=sideways", "query.direction"],
      ["/api/messages?since=yesterday", "query.since"],
      ["/api/messages?cursor=nonsense", "query.cursor"],
      ["/api/messages?cursor=eyJhIjoxfQ", "query.cursor"],
      ["/api/conversations?unread=1", "query.unread"],
      ["/api/conversations?unread=TRUE", "query.unread"],
      ["/api/phone-numbers?status=on", "query.status"],
    ];
    for (const [path, place] of queries) {
      expect(await faults(await workspace.call("GET", path)), path).toEqual([place]);
    }
    const bodies: [string, string, unknown, string][] = [
      ["POST", "/api/workspaces", { name: "A", plan: "gold" }, "body.plan"],
      ["PATCH", `/api/workspaces/${workspace.workspaceId}`, { status: "asleep" }, "body.status"],
      ["POST", "/api/messages/send/text", { to: "+12025550101", text: "a", preview_url: "yes" }, "body.preview_url"],
      ["POST", "/api/messages/send/text", { to: "12025550101", text: "a" }, "body.to"],
      ["POST", "/api/messages/send/text", { to: "+12025550101", text: "" }, "body.text"],
      ["POST", "/api/messages/send/text", { to: "+12025550101", text: "a", scheduled_at: "soon" }, "body.scheduled_at"],
      ["POST", "/api/auth/signin?provider=Myspace", { email: "a@example.com", password: "x" }, "query.provider"],
    ];
    for (const [method, path, body, place] of bodies) {
      expect(await faults(await workspace.call(method, path, body)), path).toEqual([place]);
    }
  });

  it("is told all at once", async () => {
    const response = await workspace.call("POST", "/api/messages/send/text", { to: "1", contact_id: "x", text: "" });
    expect((await faults(response)).sort()).toEqual(["body.contact_id", "body.text", "body.to"]);
  });
});

describe("what went wrong inside", () => {
  const broken = (message: string) => ({
    withSession: () => {
      throw new Error(message);
    },
  });

  it("is not shown: a fixed text and the id to look it up by", async () => {
    const logged = vi.spyOn(console, "error");
    const response = await fetchWith(
      { DIRECTORY: broken("D1_ERROR: no such column: users.password_hash at offset 7") },
      "/api/messages",
      { headers: { "X-API-Key": workspace.apiKey } },
    );
    const id = response.headers.get("X-Request-Id");
    expect(await refused(response)).toEqual([500, "Internal server error", "internal"]);
    const line = logged.mock.calls.map(([text]) => String(text)).find((text) => text.includes(String(id)));
    expect(line).toContain("no such column");
    expect(line).not.toContain(workspace.apiKey);
    logged.mockRestore();
  });

  it("is told to come back later when the database is overloaded", async () => {
    const overloaded = {
      withSession: () => ({
        getBookmark: () => null,
        prepare: () => ({
          bind: () => ({ all: () => Promise.reject(new Error("D1_ERROR: D1 DB is overloaded. Too many requests")) }),
        }),
      }),
    };
    const response = await fetchWith({ DIRECTORY: overloaded }, "/api/messages", {
      headers: { "X-API-Key": workspace.apiKey },
    });
    expect(Number(response.headers.get("Retry-After"))).toBeGreaterThan(0);
    expect(await refused(response)).toEqual([503, "Try again later", "overloaded"]);
  });
});

describe("bookmarks", () => {
  const bookmarked = (bookmark: string) => ({ "X-D1-Bookmark": bookmark });

  it("let a client read what it wrote", async () => {
    const { owner, messageId } = await newWorld();
    const cancelled = await owner.call("DELETE", `/api/messages/${messageId}`);
    const bookmark = cancelled.headers.get("X-D1-Bookmark") ?? "";
    expect(bookmark).toMatch(/^0~.{20,}$/);
    const read = await owner.call("GET", `/api/messages/${messageId}`, undefined, bookmarked(bookmark));
    expect(await read.json()).toMatchObject({ status: "cancelled" });
    expect(read.headers.get("X-D1-Bookmark")).toMatch(/^0~/);
  });

  it("are read in the database of the workspace's own shard", async () => {
    const { owner } = await newWorld({ shard: 1 });
    const response = await owner.call("GET", "/api/messages");
    expect(response.headers.get("X-D1-Bookmark")).toMatch(/^1~/);
  });

  it("reach the database only in its own form: others, and those of another shard, read from the primary", async () => {
    const asked: string[] = [];
    const watched = {
      withSession: (constraint: string) => {
        asked.push(constraint);
        return env.SHARD_0.withSession(constraint);
      },
    };
    const read = (bookmark: string) =>
      fetchWith({ SHARD_0: watched }, "/api/messages", {
        headers: { "X-API-Key": workspace.apiKey, ...bookmarked(bookmark) },
      });
    const own = (await read("")).headers.get("X-D1-Bookmark") ?? "";
    const value = own.slice(2);
    for (const bookmark of ["", "x", "0~", "0~x", "0~first-unconstrained", `0~${value}0`, `1~${value}`, value, "0~'"]) {
      asked.length = 0;
      expect((await read(bookmark)).status, bookmark).toBe(200);
      expect(asked, bookmark).toEqual(["first-primary"]);
    }
    asked.length = 0;
    expect((await read(own)).status).toBe(200);
    expect(asked).toEqual([value]);
  });
});
