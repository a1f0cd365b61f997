import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { pageContacts } from "../src/contacts/store-contacts";
import { shard } from "../src/platform/runtime";
import { memberWithRole, newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";
import { digits, expectExactCounts, receive, says } from "./support/inbox";
import { registerNumber } from "./support/numbers";

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

async function create(workspace: TestWorkspace, contact: Record<string, unknown>) {
  return body<{ id: string }>(
    await workspace.call("POST", "/api/contacts", { workspace_id: workspace.workspaceId, ...contact }),
    201,
  );
}

async function names(workspace: TestWorkspace, query: string): Promise<unknown[]> {
  const page = await body<{ data: { name: string }[] }>(
    await workspace.call("GET", `/api/contacts?workspace_id=${workspace.workspaceId}&${query}`),
    200,
  );
  return page.data.map((contact) => contact.name);
}

describe("contacts", () => {
  it("run the documented examples", async () => {
    const workspace = await newWorkspace();
    const created = await create(workspace, {
      phone_number: "+1234567890",
      name: "John Doe",
      tags: ["customer", "vip"],
    });
    expect(created).toMatchObject({
      workspace_id: workspace.workspaceId,
      wa_id: "1234567890",
      phone_number: "+1234567890",
      name: "John Doe",
      opted_in: true,
      tags: ["customer", "vip"],
    });
    const page = await body(
      await workspace.call("GET", `/api/contacts?workspace_id=${workspace.workspaceId}&search=John`),
      200,
    );
    expect(page).toMatchObject({ total: 1, limit: 20, offset: 0, data: [{ id: created.id, opted_in: true }] });
    expect(await names(workspace, "tags=vip,customer")).toEqual(["John Doe"]);
    const changed = await workspace.call("PATCH", `/api/contacts/${created.id}/`, {
      name: "Jane Doe",
      tags: ["customer", "premium"],
      opted_in: true,
    });
    expect(await body(changed, 200)).toMatchObject({ name: "Jane Doe", tags: ["customer", "premium"] });
    expect(await names(workspace, "tags=vip")).toEqual([]);
    expect((await workspace.call("DELETE", `/api/contacts/${created.id}`)).status).toBe(204);
    expect((await workspace.call("GET", `/api/contacts/${created.id}`)).status).toBe(404);
  });

  it("refuse a second contact with the same number, and bring a deleted one back", async () => {
    const workspace = await newWorkspace();
    const first = await create(workspace, { phone_number: "+447700900001", name: "Ann" });
    const again = await workspace.call("POST", "/api/contacts", {
      workspace_id: workspace.workspaceId,
      phone_number: "+447700900001",
    });
    expect(await body(again, 409)).toMatchObject({ code: "already_exists", id: first.id });
    await workspace.call("DELETE", `/api/contacts/${first.id}`);
    expect(await body(await workspace.call("GET", "/api/contacts"), 200)).toMatchObject({ total: 0, data: [] });
    const back = await create(workspace, { phone_number: "+447700900001", name: "Anna" });
    expect(back).toMatchObject({ id: first.id, name: "Anna" });
    expect(await body(await workspace.call("GET", "/api/contacts"), 200)).toMatchObject({ total: 1 });
    const many = await Promise.all(
      Array.from({ length: 8 }, () =>
        workspace.call("POST", "/api/contacts", { workspace_id: workspace.workspaceId, phone_number: "+447700900002" }),
      ),
    );
    expect(many.map((response) => response.status).sort()).toEqual([201, 409, 409, 409, 409, 409, 409, 409]);
    expect(await body(await workspace.call("GET", "/api/contacts"), 200)).toMatchObject({ total: 2 });
  });

  it("come back as they were when they write again, and not when an old message is delivered once more", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const wa = digits();
    const old = says(number, { wa, name: "Ann" }, "First");
    await receive([old]);
    const page = async () =>
      body<{ data: { id: string; name: string; tags: string[] }[]; total: number }>(
        await workspace.call("GET", "/api/contacts"),
        200,
      );
    const [ann] = (await page()).data;
    await workspace.call("PATCH", `/api/contacts/${ann?.id}`, { tags: ["kept"] });
    await workspace.call("DELETE", `/api/contacts/${ann?.id}`);
    await receive([old], { attempts: 2 });
    expect(await page()).toMatchObject({ total: 0, data: [] });
    await receive([says(number, { wa, name: "Ann" }, "Second"), says(number, { wa, name: "Ann" }, "Third")]);
    expect(await page()).toMatchObject({ total: 1, data: [{ id: ann?.id, tags: ["kept"] }] });
    expect((await page()).data).toHaveLength(1);
    await expectExactCounts(workspace.workspaceId);
  });

  it("stay out when they are made again after a STOP, unless the call says otherwise", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const wa = digits();
    const { id } = await create(workspace, { phone_number: `+${wa}` });
    const timestamp = String(Math.ceil(Date.now() / 1000));
    await receive([says(number, { wa }, { timestamp, text: { body: "STOP" } })]);
    const out = await body(await workspace.call("GET", `/api/contacts/${id}`), 200);
    expect(out).toMatchObject({ opted_in: false, consent: { source: "keyword" } });
    expect((await workspace.call("DELETE", `/api/contacts/${id}`)).status).toBe(204);
    const again = await create(workspace, { phone_number: `+${wa}`, name: "Ana" });
    expect(again).toMatchObject({
      id,
      name: "Ana",
      opted_in: false,
      opted_out_at: out.opted_out_at,
      consent: out.consent,
    });
    expect((await workspace.call("DELETE", `/api/contacts/${id}`)).status).toBe(204);
    const asked = await create(workspace, { phone_number: `+${wa}`, opted_in: true });
    expect(asked).toMatchObject({ id, opted_in: true, opted_out_at: null, consent: { source: "api" } });
  });

  it("leave at a STOP of the very second in which the API said they are in", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const wa = digits();
    const { id } = await create(workspace, { phone_number: `+${wa}` });
    // WhatsApp names whole seconds: this one began before the call above.
    const timestamp = String(Math.floor(Date.now() / 1000));
    await env.SHARD_0.prepare("UPDATE contacts SET consent_at = ?2 WHERE id = ?1")
      .bind(id, Number(timestamp) * 1000 + 700)
      .run();
    await receive([says(number, { wa }, { timestamp, text: { body: "STOP" } })]);
    expect(await body(await workspace.call("GET", `/api/contacts/${id}`), 200)).toMatchObject({ opted_in: false });
  });

  it("are one person however their number is spelled", async () => {
    const workspace = await newWorkspace();
    const { id } = await create(workspace, { phone_number: "+5541999906091" });
    const other = await workspace.call("POST", "/api/contacts", { phone_number: "+554199906091" });
    expect(await body(other, 409)).toMatchObject({ code: "already_exists", id });
    expect((await workspace.call("DELETE", `/api/contacts/${id}`)).status).toBe(204);
    expect(await create(workspace, { phone_number: "+554199906091" })).toMatchObject({ id });
    await expectExactCounts(workspace.workspaceId);
  });

  it("are not found by signs, nor tagged with what separates tags", async () => {
    const workspace = await newWorkspace();
    await create(workspace, { phone_number: "+12025550190", name: "Ana" });
    for (const signs of ["%25", "*", "%22", "---"]) expect(await names(workspace, `search=${signs}`)).toEqual([]);
    for (const tag of ["a,b", "a;b"]) {
      const refused = await workspace.call("POST", "/api/contacts", { phone_number: "+12025550191", tags: [tag] });
      expect(await body(refused, 422)).toMatchObject({ detail: [{ loc: ["body", "tags", 0] }] });
    }
  });

  it("are found by the beginnings of words and of numbers, in one workspace only", async () => {
    const [workspace, stranger] = [await newWorkspace(), await newWorkspace()];
    await create(workspace, { phone_number: "+12025550101", name: "María López", tags: ["a b", 'x"y'] });
    await create(workspace, { phone_number: "+12025550102", name: "Mark Ma", opted_in: false });
    await create(stranger, { phone_number: "+12025550101", name: "Maria Foreign" });
    expect(await names(workspace, "search=mar")).toEqual(["Mark Ma", "María López"]);
    expect(await names(workspace, "search=m")).toEqual(["Mark Ma", "María López"]);
    expect(await names(workspace, `search=${encodeURIComponent("lopez mar")}`)).toEqual(["María López"]);
    expect(await names(workspace, `search=${encodeURIComponent("+1 (202) 555-0101")}`)).toEqual(["María López"]);
    for (const written of ["mari\u0301a", "lópez", "lo\u0301pez", "LOPEZ"]) {
      expect(await names(workspace, `search=${encodeURIComponent(written)}`), written).toEqual(["María López"]);
    }
    expect(await names(workspace, "search=1202")).toHaveLength(2);
    expect(await names(workspace, `tags=${encodeURIComponent("a b")}`)).toEqual(["María López"]);
    expect(await names(workspace, `tags=${encodeURIComponent('x"y,a b')}`)).toEqual(["María López"]);
    expect(await names(workspace, "tags=a")).toEqual([]);
    expect(await names(workspace, "opted_in=false")).toEqual(["Mark Ma"]);
    expect(await names(workspace, `search=${encodeURIComponent('" OR w : *')}`)).toEqual([]);
    expect((await workspace.call("GET", "/api/contacts?opted_in=yes")).status).toBe(422);
  });

  it("page by cursor, with and without a filter, and never twice", async () => {
    const workspace = await newWorkspace();
    for (let n = 0; n < 7; n += 1)
      await create(workspace, { phone_number: `+1202555020${n}`, name: `Person ${n}`, tags: ["all"] });
    for (const filter of ["", "&tags=all"]) {
      const seen: unknown[] = [];
      let cursor = "";
      do {
        const page = await body<{ data: { name: string }[]; total: number; next_cursor: string | null }>(
          await workspace.call("GET", `/api/contacts?limit=3${filter}${cursor}`),
          200,
        );
        expect(page.total).toBe(7);
        seen.push(...page.data.map((contact) => contact.name));
        cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
      } while (cursor !== "");
      expect(seen).toEqual([6, 5, 4, 3, 2, 1, 0].map((n) => `Person ${n}`));
    }
  });

  it("are exported whole, with formulas defused", async () => {
    const workspace = await newWorkspace();
    await create(workspace, { phone_number: "+12025550301", name: '=HYPERLINK("x")', tags: ["a", "b"] });
    await create(workspace, { phone_number: "+12025550302", name: 'Quote "me", please' });
    const response = await workspace.call("GET", "/api/contacts/export");
    expect(response.headers.get("content-type")).toContain("text/csv");
    const lines = (await response.text()).replace("\u{FEFF}", "").trim().split("\r\n");
    expect(lines[0]).toMatch(/^phone,name,tags,/);
    expect(lines[1]).toMatch(/^\+12025550302,"Quote ""me"", please",/);
    expect(lines[2]).toMatch(/^\+12025550301,"'=HYPERLINK\(""x""\)",a;b,/);
  });

  it("are read-only for agents", async () => {
    const workspace = await newWorkspace();
    const contact = await create(workspace, { phone_number: "+12025550401" });
    const agent = await memberWithRole(workspace, "AGENT");
    expect((await agent.call("GET", `/api/contacts/${contact.id}`)).status).toBe(200);
    expect((await agent.call("PATCH", `/api/contacts/${contact.id}`, { name: "x" })).status).toBe(403);
    expect(
      (await agent.call("POST", "/api/contacts", { workspace_id: workspace.workspaceId, phone_number: "+12025550402" }))
        .status,
    ).toBe(403);
  });

  it("cost as many rows read as a page has, however many there are and however deep it is", async () => {
    const workspace = await newWorkspace();
    const ws = workspace.workspaceId;
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20000)
       INSERT INTO contacts (workspace_id, id, kind, phone_number, name, tags, opted_in, source, created_at, updated_at)
       SELECT ?1, printf('01990000-0000-7000-8000-%012d', value), 'person', printf('+1%010d', value), 'Name' || (value % 100) || ' Some', '["t"]', 1, 'import', 0, 0
       FROM n`,
    )
      .bind(ws)
      .run();
    await env.SHARD_0.prepare("INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'contacts', 20000)")
      .bind(ws)
      .run();
    const none = { tags: [], optedIn: null, search: null };
    /** Rows read by each of ten pages that follow each other. */
    const costs = async (filter: Parameters<typeof pageContacts>[2], limit: number): Promise<number[]> => {
      const read: number[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < 10; page += 1) {
        const db = shard(testRuntime(), 0);
        const found = await pageContacts(db, ws, filter, { limit, offset: 0, cursor });
        expect(found.rows).toHaveLength(limit);
        expect(found.total).toBe(filter === none ? 20_000 : 2200);
        read.push(db.cost.rowsRead);
        cursor = found.nextCursor ?? undefined;
      }
      return read;
    };
    for (const limit of [20, 100]) expect(Math.max(...(await costs(none, limit)))).toBeLessThanOrEqual(3 * limit + 10);
    // The exact count of what a filter finds grows, to 10,000 at the most; the page does not, however deep it is.
    const [first = 0, ...deeper] = await costs({ ...none, search: "name7" }, 20);
    expect(first).toBeLessThanOrEqual(2200 + 100);
    expect(Math.max(...deeper)).toBeLessThanOrEqual(first + 10);
  });

  it("are all found behind thousands that were deleted", async () => {
    const workspace = await newWorkspace();
    const first = await create(workspace, { phone_number: "+12025550501", name: "First" });
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 4500)
       INSERT INTO contacts (workspace_id, id, kind, phone_number, tags, opted_in, source, created_at, updated_at, deleted_at)
       SELECT ?1, printf('09990000-0000-7000-8000-%012d', value), 'person', printf('+1%010d', value), '[]', 1, 'import', 0, 0, 1 FROM n`,
    )
      .bind(workspace.workspaceId)
      .run();
    const seen: string[] = [];
    let cursor = "";
    let pages = 0;
    do {
      const page = await body<{ data: { id: string }[]; next_cursor: string | null }>(
        await workspace.call("GET", `/api/contacts?limit=2${cursor}`),
        200,
      );
      seen.push(...page.data.map((contact) => contact.id));
      cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
      pages += 1;
    } while (cursor !== "");
    expect(seen).toEqual([first.id]);
    expect(pages).toBe(3);
    expect(await (await workspace.call("GET", "/api/contacts/export")).text()).toContain("+12025550501");
  });
});
