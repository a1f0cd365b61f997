import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";

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

  it("are found by the beginnings of words and of numbers, in one workspace only", async () => {
    const [workspace, stranger] = [await newWorkspace(), await newWorkspace()];
    await create(workspace, { phone_number: "+12025550101", name: "María López", tags: ["a b", 'x"y'] });
    await create(workspace, { phone_number: "+12025550102", name: "Mark Ma", opted_in: false });
    await create(stranger, { phone_number: "+12025550101", name: "Maria Foreign" });
    expect(await names(workspace, "search=mar")).toEqual(["Mark Ma", "María López"]);
    expect(await names(workspace, "search=m")).toEqual(["Mark Ma", "María López"]);
    expect(await names(workspace, `search=${encodeURIComponent("lopez mar")}`)).toEqual(["María López"]);
    expect(await names(workspace, `search=${encodeURIComponent("+1 (202) 555-0101")}`)).toEqual(["María López"]);
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

  it("cost as many rows read as a page has, however many there are", async () => {
    const workspace = await newWorkspace();
    await env.SHARD_0.prepare(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, name, tags, opted_in, source, created_at, updated_at)
       SELECT ?1, printf('01990000-0000-7000-8000-%012d', value), 'person', printf('+1%010d', value), 'Name' || (value % 100) || ' Some', '["t"]', 1, 'import', 0, 0
       FROM generate_series(1, 20000)`.replace(
        "FROM generate_series(1, 20000)",
        "FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20000) SELECT value FROM n)",
      ),
    )
      .bind(workspace.workspaceId)
      .run();
    const token = workspace.workspaceId.replaceAll("-", "");
    const read = await env.SHARD_0.prepare(
      "SELECT c.id FROM (SELECT f.rowid AS r FROM contacts_fts f WHERE contacts_fts MATCH ?1 ORDER BY f.rowid DESC LIMIT 21) m CROSS JOIN contacts c WHERE c.row_id = m.r",
    )
      .bind(`w : "${token}" AND {name phone} : "name7" *`)
      .all();
    expect(read.results).toHaveLength(21);
    expect(read.meta.rows_read).toBeLessThanOrEqual(3 * 20 + 10);
  });
});
