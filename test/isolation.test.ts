import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { api } from "../src/api";
import { ROLES, type Role } from "../src/auth/access";
import { call, insertMember, memberWithRole, newSession, newWorkspace } from "./support/identity";
import { breaches, loadDocument, type Operation, operationsOf } from "./support/openapi";
import { CASES, newWorld, type OperationCase, perform, type World } from "./support/operations";
import { makeTicket, upgrade } from "./support/sockets";
import { badCredentials, everythingOf, strangersTo } from "./support/strangers";

/** What nobody has to prove anything for. A further one is a decision, so it is written down here. */
const PUBLIC = ["GET /docs", "GET /openapi.json", "POST /api/auth/signin", "POST /api/auth/signup"];

/** Contract 7 and product 2, written down a second time: who may not do what everybody else in a workspace may. */
const OWNERS_ONLY = ["DELETE /api/workspaces/{workspace_id}"];
const ADMINS_ONLY = [
  "DELETE /api/phone-numbers/{phone_number_id}",
  "DELETE /api/workspaces/{workspace_id}/members/{member_id}",
  "GET /api/dead-letters",
  "GET /api/webhook-events",
  "PATCH /api/phone-numbers/{phone_number_id}",
  "PATCH /api/workspaces/{workspace_id}",
  "PATCH /api/workspaces/{workspace_id}/members/{member_id}",
  "POST /api/dead-letters/{id}/replay",
  "POST /api/phone-numbers",
  "POST /api/phone-numbers/{phone_number_id}/exchange-token",
  "POST /api/phone-numbers/{phone_number_id}/webhook",
  "POST /api/workspaces/{workspace_id}/members",
  "POST /api/workspaces/{workspace_id}/rotate-api-key",
  "POST /api/workspaces/{workspace_id}/rotate-webhook-secret",
];
const NOT_WITH_KEYS = [
  "DELETE /api/workspaces/{workspace_id}",
  "DELETE /api/workspaces/{workspace_id}/members/{member_id}",
  "PATCH /api/workspaces/{workspace_id}/members/{member_id}",
  "POST /api/workspaces/{workspace_id}/members",
  "POST /api/workspaces/{workspace_id}/rotate-api-key",
  "POST /api/workspaces/{workspace_id}/rotate-webhook-secret",
];

const document = await loadDocument();
const operations = operationsOf(document);
const inWorkspaces = operations.filter((operation) => operation["x-access"] === "workspace");

/** Operations whose protection nobody stated, or which the walk does not know how to call. */
function unclassified(found: readonly Operation[], cases: Record<string, OperationCase>): string[] {
  return found
    .filter((operation) => {
      switch (operation["x-access"]) {
        case "public":
          return !PUBLIC.includes(operation.key) || !cases[operation.key];
        case "signed":
          return operation["x-signed-by"] === undefined || !cases[operation.key]?.unproved;
        case "user":
          return !cases[operation.key];
        case "workspace":
          return !operation["x-permission"] || !operation["x-roles"]?.length || !cases[operation.key];
        default:
          return true;
      }
    })
    .map(({ key }) => key);
}

function caseOf(operation: Operation): OperationCase {
  const found = CASES[operation.key];
  if (!found) throw new Error(`${operation.key} has no row in test/support/operations.ts`);
  return found;
}

const refusal = z.looseObject({ detail: z.unknown(), code: z.string(), request_id: z.string() });

/** The status and text of a refusal that keeps what the document promises. */
async function refusalOf(operation: Operation, response: Response): Promise<[number, unknown, string]> {
  expect(await breaches(document, operation, response.clone())).toEqual([]);
  const body = refusal.parse(await response.json());
  expect(body.request_id).toBe(response.headers.get("X-Request-Id"));
  return [response.status, body.detail, body.code];
}

async function succeeds(operation: Operation, response: Response): Promise<void> {
  if (response.status !== caseOf(operation).status) {
    throw new Error(`${operation.key} answers ${response.status}: ${await response.text()}`);
  }
  expect(await breaches(document, operation, response)).toEqual([]);
}

const notFoundIn = (operation: Operation) => [
  404,
  operation["x-item"] ? "Resource not found" : "Workspace not found",
  "not_found",
];
const invalid = [401, "Invalid credentials", "unauthenticated"];

/** What only members may see of a workspace. */
const idsOf = (world: World) => [
  world.owner.workspaceId,
  world.phoneNumberId,
  world.contactId,
  world.conversationId,
  world.messageId,
  world.deadLetterId,
  world.webhookEventId,
];

describe("every operation", () => {
  it("says how it is protected, and the walk knows how to call it", () => {
    expect(operations.length).toBeGreaterThan(40);
    expect(unclassified(operations, CASES)).toEqual([]);
    expect(Object.keys(CASES).filter((key) => !operations.some((operation) => operation.key === key))).toEqual([]);
    expect(
      operations
        .filter((o) => o["x-access"] === "public")
        .map(({ key }) => key)
        .sort(),
    ).toEqual(PUBLIC);
  });

  it("has the roles that were decided for it, and keys do what was decided for keys", () => {
    const keysOf = (found: Operation[]) => found.map(({ key }) => key).sort();
    const forRoles = (roles: string) => keysOf(inWorkspaces.filter((o) => o["x-roles"]?.join() === roles));
    expect(forRoles("OWNER")).toEqual(OWNERS_ONLY);
    expect(forRoles("OWNER,ADMIN")).toEqual(ADMINS_ONLY);
    expect(forRoles(ROLES.join())).toHaveLength(inWorkspaces.length - OWNERS_ONLY.length - ADMINS_ONLY.length);
    expect(keysOf(inWorkspaces.filter((o) => !o["x-api-key"]))).toEqual(NOT_WITH_KEYS);
  });

  it("would be missed: one that says nothing, a new public one, one that nobody calls here", () => {
    const [known] = inWorkspaces;
    if (!known) throw new Error("The document has no workspace operations");
    const { "x-access": _, ...silent } = known;
    const added = { ...known, key: "GET /api/new" };
    const open: Operation = { ...known, key: "GET /api/open", "x-access": "public" };
    const found = unclassified([silent, added, open], { ...CASES, [open.key]: { status: 200, call: () => ({}) } });
    expect(found).toEqual([known.key, added.key, open.key]);
  });

  it("is in the document: no route is mounted beside it", () => {
    const mounted = api.routes
      .filter(({ method }) => method !== "ALL")
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
    expect([...new Set(mounted)].sort()).toEqual(operations.map(({ key }) => key).sort());
  });
});

describe("operations without our credentials", () => {
  let world: World;
  beforeAll(async () => {
    world = await newWorld();
  });

  const open = operations.filter((operation) => operation["x-access"] === "public");
  it.each(open.map((operation) => [operation.key, operation] as const))("%s asks nobody", async (_, operation) => {
    await succeeds(operation, await perform(operation, await caseOf(operation).call(world), null));
  });

  const signed = operations.filter((operation) => operation["x-access"] === "signed");
  it.each(signed.map((operation) => [operation.key, operation] as const))(
    "%s takes its own proof and nothing else",
    async (_, operation) => {
      const { unproved, call: proved } = caseOf(operation);
      if (!unproved) throw new Error("Not classified");
      const bare = await unproved.call(world);
      const [status, detail] = await refusalOf(operation, await perform(operation, bare, null));
      expect([status, detail]).toEqual([unproved.status, unproved.detail]);
      // Credentials of ours are no proof; only the documented refresh takes an access token too.
      const others = operation.key === "POST /api/auth/refresh" ? [] : [world.owner.token];
      for (const token of [world.owner.apiKey, ...others]) {
        const [refused] = await refusalOf(operation, await perform(operation, await unproved.call(world), token));
        expect([unproved.status, 403]).toContain(refused);
      }
      await succeeds(operation, await perform(operation, await proved(world), null));
    },
  );
});

describe("without good credentials", () => {
  let bad: Record<string, Record<string, string>>;
  let world: World;
  beforeAll(async () => {
    [bad, world] = await Promise.all([badCredentials(), newWorld()]);
  });

  const guarded = operations.filter((o) => o["x-access"] === "user" || o["x-access"] === "workspace");
  it.each(guarded.map((operation) => [operation.key, operation] as const))("%s is a 401", async (_, operation) => {
    const good = await caseOf(operation).call(world);
    for (const [what, headers] of Object.entries(bad)) {
      const response = await perform(operation, { ...good, headers: { ...good.headers, ...headers } }, null);
      expect(response.headers.get("WWW-Authenticate"), what).toBe("Bearer");
      expect(await refusalOf(operation, response), what).toEqual(invalid);
    }
  });

  it.each(guarded.map((operation) => [operation.key, operation] as const))(
    "%s says so before it looks at what was asked",
    async (_, operation) => {
      const params = Object.fromEntries([...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name, "no-id"]));
      const headers = { "Content-Type": "application/json" };
      for (const body of operation.method === "GET" ? [undefined] : ["{", "[]", undefined]) {
        const response = await perform(operation, { params, query: { limit: "many" }, headers, body }, null);
        expect(await refusalOf(operation, response)).toEqual(invalid);
      }
      if (operation.method === "GET") return;
      const form = await perform(operation, { params, headers: { "Content-Type": "text/csv" }, body: "a,b" }, null);
      expect(await refusalOf(operation, form)).toEqual(invalid);
    },
  );
});

describe("what belongs to another workspace", () => {
  let worlds: World[];
  let strangers: Record<string, string>;
  let before: string[];
  beforeAll(async () => {
    worlds = await Promise.all([newWorld(), newWorld({ shard: 1 })]);
    strangers = await strangersTo(worlds);
    before = await Promise.all(worlds.map(everythingOf));
  });

  it.each(inWorkspaces.map((operation) => [operation.key, operation] as const))("%s is a 404", async (_, operation) => {
    for (const world of worlds) {
      const foreign = await caseOf(operation).call(world);
      for (const [who, token] of Object.entries(strangers)) {
        const response = await perform(operation, foreign, token);
        expect(await refusalOf(operation, response), who).toEqual(notFoundIn(operation));
      }
    }
  });

  const lists = inWorkspaces.filter(({ method, path }) => method === "GET" && !path.includes("{"));
  it.each(lists.map((operation) => [operation.key, operation] as const))(
    "%s shows one's own where no workspace is named",
    async (_, operation) => {
      const own = await newWorld();
      const text = await (await perform(operation, {}, own.owner.token)).text();
      expect(text).toContain(`"workspace_id":"${own.owner.workspaceId}"`);
      for (const id of worlds.flatMap(idsOf)) expect(text).not.toContain(id);
    },
  );

  it("was not touched by any of these calls", async () => {
    expect(await Promise.all(worlds.map(everythingOf))).toEqual(before);
  });
});

describe("roles", () => {
  let shared: World;
  let members: Record<Role, string>;
  beforeAll(async () => {
    shared = await newWorld();
    members = await membersOf(shared);
  });

  async function membersOf(world: World): Promise<Record<Role, string>> {
    const [admin, member, agent] = await Promise.all(
      (["ADMIN", "MEMBER", "AGENT"] as const).map((role) => memberWithRole(world.owner, role)),
    );
    return {
      OWNER: world.owner.token,
      ADMIN: admin?.token ?? "",
      MEMBER: member?.token ?? "",
      AGENT: agent?.token ?? "",
    };
  }

  it.each(inWorkspaces.map((operation) => [operation.key, operation] as const))(
    "%s serves the roles it names, and refuses the others",
    async (_, operation) => {
      const { call: make, once, settings } = caseOf(operation);
      const allowed = operation["x-roles"] ?? [];
      const text = `Insufficient permissions. ${allowed.join(" or ")} role required`;
      for (const role of ROLES.filter((name) => !allowed.includes(name))) {
        const response = await perform(operation, await make(shared), members[role], settings);
        expect(await refusalOf(operation, response), role).toEqual([403, text, "forbidden"]);
      }
      if (!operation["x-api-key"]) {
        const response = await perform(operation, await make(shared), shared.owner.apiKey, settings);
        expect(await refusalOf(operation, response), "API key").toEqual([403, text, "forbidden"]);
      }
      for (const role of ROLES.filter((name) => allowed.includes(name))) {
        const world = once ? await newWorld() : shared;
        const token = (once ? await membersOf(world) : members)[role];
        await succeeds(operation, await perform(operation, await make(world), token, settings));
      }
      if (operation["x-api-key"]) {
        const world = once ? await newWorld() : shared;
        await succeeds(operation, await perform(operation, await make(world), world.owner.apiKey, settings));
      }
    },
  );

  const ofUsers = operations.filter((operation) => operation["x-access"] === "user");
  it.each(ofUsers.map((operation) => [operation.key, operation] as const))(
    "%s serves a user and refuses an API key",
    async (_, operation) => {
      const { call: make, settings } = caseOf(operation);
      const good = await make(shared);
      const withKey = await perform(operation, good, shared.owner.apiKey, settings);
      expect(await refusalOf(operation, withKey)).toEqual([
        403,
        "An API key cannot do this; sign in as a user",
        "forbidden",
      ]);
      await succeeds(operation, await perform(operation, good, (good.as ?? shared.owner).token, settings));
    },
  );
});

describe("a workspace that is gone or stands still", () => {
  it("is a 404 to its own people everywhere once it is deleted", async () => {
    const world = await newWorld();
    const agent = await memberWithRole(world.owner, "AGENT");
    const calls = await Promise.all(inWorkspaces.map(async (o) => [o, await caseOf(o).call(world)] as const));
    expect((await world.owner.call("DELETE", `/api/workspaces/${world.owner.workspaceId}`)).status).toBe(204);
    for (const [operation, made] of calls) {
      for (const token of [world.owner.token, agent.token]) {
        const response = await perform(operation, made, token);
        expect(await refusalOf(operation, response), operation.key).toEqual(notFoundIn(operation));
      }
    }
  });

  it("can be read and woken while it is suspended, and sends nothing", async () => {
    const { owner, phoneNumberId, messageId } = await newWorld();
    const path = `/api/workspaces/${owner.workspaceId}`;
    expect((await owner.call("PATCH", path, { status: "suspended" })).status).toBe(200);
    expect((await owner.call("GET", `/api/messages/${messageId}`)).status).toBe(200);
    const body = { workspace_id: owner.workspaceId, phone_number_id: phoneNumberId, to: "+12025550199", text: "Hi" };
    for (const send of [owner.call, owner.callWithKey]) {
      const refused = await send("POST", "/api/messages/send/text", body);
      expect([refused.status, refusal.parse(await refused.json()).detail]).toEqual([409, "The workspace is suspended"]);
    }
    expect((await owner.call("PATCH", path, { status: "active" })).status).toBe(200);
    expect((await owner.call("POST", "/api/messages/send/text", body)).status).toBe(201);
  });

  it("does not stand in for another: a token that claims a workspace one has left acts on none", async () => {
    const [left, own] = await Promise.all([newWorld(), newWorkspace()]);
    await insertMember(left.owner.workspaceId, own, "MEMBER");
    const session = await newSession(own.userId, left.owner.workspaceId);
    const ids = async () => {
      const response = await session.call("GET", "/api/messages");
      return [response.status, await response.text()] as const;
    };
    expect((await ids())[1]).toContain(left.messageId);
    await env.DIRECTORY.prepare("DELETE FROM members WHERE workspace_id = ?1 AND user_id = ?2")
      .bind(left.owner.workspaceId, own.userId)
      .run();
    const [status, text] = await ids();
    expect([status, refusal.parse(JSON.parse(text)).detail]).toEqual([404, "Workspace not found"]);
    const named = await session.call("GET", `/api/messages?workspace_id=${own.workspaceId}`);
    expect(named.status).toBe(200);
  });
});

describe("foreign ids inside one's own workspace", () => {
  let own: World;
  let foreign: World;
  beforeAll(async () => {
    [own, foreign] = await Promise.all([newWorld(), newWorld()]);
  });

  const page = z.looseObject({ data: z.array(z.unknown()), total: z.int(), next_cursor: z.string().nullable() });

  it("find nothing as filters", async () => {
    const filters = [
      `/api/messages?conversation_id=${foreign.conversationId}`,
      `/api/messages?contact_id=${foreign.contactId}`,
      `/api/messages?phone_number_id=${foreign.phoneNumberId}`,
      `/api/conversations?phone_number_id=${foreign.phoneNumberId}`,
    ];
    for (const path of filters) {
      for (const ask of [own.owner.call, own.owner.callWithKey]) {
        expect(page.parse(await (await ask("GET", path)).json()), path).toMatchObject({
          data: [],
          total: 0,
          next_cursor: null,
        });
      }
      const theirs = page.parse(await (await foreign.owner.call("GET", path)).json());
      expect(theirs.total, path).toBe(1);
    }
  });

  it("lead nowhere from another's cursor", async () => {
    const texts = ["One", "Two", "Three"];
    for (const text of texts) {
      const body = { to: "+12025550101", text, scheduled_at: new Date(Date.now() + 7 * 86_400_000).toISOString() };
      expect((await foreign.owner.call("POST", "/api/messages/send/text", body)).status).toBe(201);
    }
    const first = page.parse(await (await foreign.owner.call("GET", "/api/messages?limit=1")).json());
    const response = await own.owner.call("GET", `/api/messages?cursor=${first.next_cursor}`);
    const text = await response.text();
    expect(response.status).toBe(200);
    for (const id of idsOf(foreign)) expect(text).not.toContain(id);
  });

  it("cannot be sent to, from, or in reply to", async () => {
    const target = { to: "+12025550111" };
    const sends: [Record<string, string>, number, unknown][] = [
      [{ contact_id: foreign.contactId }, 404, "Contact not found"],
      [{ conversation_id: foreign.conversationId }, 404, "Conversation not found"],
      [
        { ...target, phone_number_id: foreign.phoneNumberId },
        422,
        [
          {
            loc: ["body", "phone_number_id"],
            msg: "Phone number not found in this workspace",
            type: "value_error",
          },
        ],
      ],
      [
        { ...target, reply_to: foreign.messageId },
        422,
        [{ loc: ["body", "reply_to"], msg: "Message not found in this workspace", type: "value_error" }],
      ],
    ];
    const before = await everythingOf(foreign);
    for (const [body, status, detail] of sends) {
      for (const send of [own.owner.call, own.owner.callWithKey]) {
        const response = await send("POST", "/api/messages/send/text", { text: "Hello", ...body });
        expect([response.status, refusal.parse(await response.json()).detail]).toEqual([status, detail]);
      }
    }
    expect(await everythingOf(foreign)).toBe(before);
  });

  it("cannot be named by the provider's id of a foreign number either", async () => {
    const row = await env.SHARD_0.prepare("SELECT provider_number_id FROM phone_numbers WHERE workspace_id = ?1")
      .bind(foreign.owner.workspaceId)
      .first<{ provider_number_id: string }>();
    const response = await own.owner.call("POST", "/api/messages/send/text", {
      to: "+12025550111",
      text: "Hello",
      phone_number_id: row?.provider_number_id,
    });
    expect(response.status).toBe(422);
  });

  it("do not make one's members another's to change", async () => {
    const path = `/api/workspaces/${own.owner.workspaceId}/members/${foreign.member.memberId}`;
    expect((await own.owner.call("PATCH", path, { role: "OWNER" })).status).toBe(404);
    expect((await own.owner.call("DELETE", path)).status).toBe(404);
    const member = await foreign.member.call("GET", `/api/workspaces/${foreign.owner.workspaceId}`);
    expect(member.status).toBe(200);
  });

  it("are not chosen by a header: X-Workspace-Id of another is a 404, and a key stays in its own", async () => {
    const header = { "X-Workspace-Id": foreign.owner.workspaceId };
    const asUser = await own.owner.call("GET", "/api/messages", undefined, header);
    expect([asUser.status, refusal.parse(await asUser.json()).detail]).toEqual([404, "Workspace not found"]);
    const withKey = await own.owner.callWithKey("GET", "/api/messages", undefined, header);
    expect(await withKey.text()).toContain(own.messageId);
    const both = { "X-API-Key": own.owner.apiKey, ...header };
    expect(await (await call("GET", "/api/messages", undefined, both)).text()).not.toContain(foreign.messageId);
  });

  it("open no live connection: tickets and stream tokens are good for what they were made for", async () => {
    const { call: ask, workspaceId } = own.owner;
    const theirs = foreign.owner.workspaceId;
    const asked = await ask("POST", "/api/realtime/tickets", {
      workspace_id: workspaceId,
      conversation_id: foreign.conversationId,
    });
    expect(asked.status).toBe(404);
    const feed = await makeTicket(ask, workspaceId);
    const thread = await makeTicket(ask, workspaceId, own.conversationId);
    const forbidden = [
      `/api/workspaces/${theirs}/live?ticket=${feed}`,
      `/api/conversations/${foreign.conversationId}/live?ticket=${thread}`,
      `/api/conversations/${foreign.conversationId}/live?ticket=${feed}`,
      `/api/conversations/${own.conversationId}/live?ticket=${feed}`,
      `/api/workspaces/${workspaceId}/live?ticket=${thread}`,
    ];
    for (const path of forbidden) {
      const response = await upgrade(path);
      expect([response.status, refusal.parse(await response.json()).code], path).toEqual([403, "forbidden"]);
    }
    const made = await ask("POST", "/api/realtime/stream-tokens", { workspace_id: workspaceId });
    const { stream_token } = z.object({ stream_token: z.string() }).parse(await made.json());
    const streams = await Promise.all([
      call("GET", `/api/workspaces/${theirs}/events?stream_token=${stream_token}`),
      ask("GET", `/api/workspaces/${theirs}/events`),
      call("GET", `/api/messages?stream_token=${stream_token}`),
    ]);
    expect(streams.map(({ status }) => status)).toEqual([403, 404, 401]);
  });
});
