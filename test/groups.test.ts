import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { mergePair } from "../src/contacts/service-merge";
import { fillGroups } from "../src/groups/service-fill";
import { membersStep, selectGroupsOf } from "../src/groups/service-members";
import { newUuid } from "../src/platform/ids";
import { shard } from "../src/platform/runtime";
import { memberWithRole, newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";

vi.setConfig({ testTimeout: 30_000 });

interface Group {
  id: string;
  name: string;
  capacity: number;
  size: number;
  auto_fill: boolean;
}

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

async function newGroup(workspace: TestWorkspace, given: Record<string, unknown> = {}): Promise<Group> {
  return body<Group>(
    await workspace.call("POST", "/api/groups", { workspace_id: workspace.workspaceId, name: "Friends", ...given }),
    201,
  );
}

async function groupsOf(workspace: TestWorkspace): Promise<Group[]> {
  const all: Group[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor === null ? "" : `&cursor=${cursor}`;
    const page: { data: Group[]; total: number; next_cursor: string | null } = await body(
      await workspace.call("GET", `/api/groups?limit=100&workspace_id=${workspace.workspaceId}${query}`),
      200,
    );
    all.push(...page.data);
    cursor = page.next_cursor;
    if (cursor === null) expect(page.total).toBe(all.length);
  } while (cursor !== null);
  return all.reverse();
}

let people = 0;
const nextPhone = () => {
  people += 1;
  return `+1303${String(1_000_000 + people)}`;
};

async function newContact(workspace: TestWorkspace, phone = nextPhone()): Promise<string> {
  const contact = await body<{ id: string }>(
    await workspace.call("POST", "/api/contacts", { workspace_id: workspace.workspaceId, phone_number: phone }),
    201,
  );
  return contact.id;
}

function upload(workspace: TestWorkspace, phones: readonly string[]): Promise<Response> {
  const form = new FormData();
  form.append("file", new File([`phone\n${phones.join("\n")}\n`], "contacts.csv"));
  return workspace.call("POST", `/api/contacts/import?workspace_id=${workspace.workspaceId}`, form);
}

async function imports(workspace: TestWorkspace, phones: readonly string[]): Promise<void> {
  await body(await upload(workspace, phones), 200);
}

const phones = (n: number) => Array.from({ length: n }, nextPhone);

interface Membership {
  group_id: string;
  contact_id: string;
  slot: string;
}

async function memberships(workspace: TestWorkspace): Promise<Membership[]> {
  const { results } = await env.SHARD_0.prepare("SELECT * FROM contact_group_members WHERE workspace_id = ?1")
    .bind(workspace.workspaceId)
    .all<Membership>();
  return results;
}

/** What is promised of automatic groups, whatever happened before. */
async function expectFilled(workspace: TestWorkspace, contacts: number): Promise<void> {
  const groups = (await groupsOf(workspace)).filter((group) => group.auto_fill);
  const members = (await memberships(workspace)).filter(({ slot }) => slot === "");
  for (const group of groups) {
    expect(group.size, group.name).toBe(members.filter(({ group_id }) => group_id === group.id).length);
    expect(group.size).toBeLessThanOrEqual(group.capacity);
  }
  expect(new Set(members.map(({ contact_id }) => contact_id)).size).toBe(members.length);
  expect(members.length).toBe(contacts);
  // No gap: all but one are full, and none was made in vain.
  expect(groups.filter((group) => group.size < group.capacity).length).toBeLessThanOrEqual(1);
  expect(groups.filter((group) => group.size === 0)).toEqual([]);
}

describe("a group", () => {
  it("holds 250 and fills by hand unless said otherwise; is changed, listed and deleted", async () => {
    const workspace = await newWorkspace();
    const group = await newGroup(workspace);
    expect(group).toMatchObject({ name: "Friends", capacity: 250, size: 0, auto_fill: false });
    const changed = await body<Group>(
      await workspace.call("PATCH", `/api/groups/${group.id}`, { name: "Best friends", capacity: 2, auto_fill: true }),
      200,
    );
    expect(changed).toMatchObject({ name: "Best friends", capacity: 2, auto_fill: true });
    await newGroup(workspace, { name: "Others" });
    expect((await groupsOf(workspace)).map(({ name }) => name)).toEqual(["Best friends", "Others"]);
    expect((await workspace.call("DELETE", `/api/groups/${group.id}`)).status).toBe(204);
    expect((await workspace.call("GET", `/api/groups/${group.id}`)).status).toBe(404);
    expect((await groupsOf(workspace)).map(({ name }) => name)).toEqual(["Others"]);
  });

  it("is refused without a name, or with a capacity of none", async () => {
    const workspace = await newWorkspace();
    for (const given of [{ name: " " }, { capacity: 0 }, { capacity: 1.5 }, { capacity: 5001 }, { auto_fill: "yes" }]) {
      const response = await workspace.call("POST", "/api/groups", { name: "Good", ...given });
      expect(response.status, JSON.stringify(given)).toBe(422);
    }
  });

  it("is not deleted while it has members", async () => {
    const workspace = await newWorkspace();
    const group = await newGroup(workspace);
    const contact = await newContact(workspace);
    await body(await workspace.call("POST", `/api/groups/${group.id}/members`, { contact_ids: [contact] }), 200);
    await body(await workspace.call("DELETE", `/api/groups/${group.id}`), 409);
    expect((await workspace.call("DELETE", `/api/groups/${group.id}/members/${contact}`)).status).toBe(204);
    expect((await workspace.call("DELETE", `/api/groups/${group.id}/members/${contact}`)).status).toBe(404);
    expect((await workspace.call("DELETE", `/api/groups/${group.id}`)).status).toBe(204);
  });

  it("is read by agents, and nobody's outside the workspace", async () => {
    const workspace = await newWorkspace();
    const group = await newGroup(workspace);
    const contact = await newContact(workspace);
    const agent = await memberWithRole(workspace, "AGENT");
    expect((await agent.call("GET", `/api/groups/${group.id}`)).status).toBe(200);
    expect((await agent.call("DELETE", `/api/groups/${group.id}`)).status).toBe(403);
    const stranger = await newWorkspace();
    const own = await newGroup(stranger);
    for (const [method, path] of [
      ["GET", `/api/groups/${group.id}`],
      ["GET", `/api/groups/${group.id}/members`],
      ["DELETE", `/api/groups/${group.id}`],
      ["DELETE", `/api/groups/${group.id}/members/${contact}`],
    ] as const) {
      expect((await stranger.call(method, path)).status, `${method} ${path}`).toBe(404);
    }
    // Somebody else's contact is nobody.
    await body(await stranger.call("POST", `/api/groups/${own.id}/members`, { contact_ids: [contact] }), 422);
    expect(await memberships(stranger)).toEqual([]);
  });
});

describe("members", () => {
  it("are added all or none: not beyond the capacity, not those who are not there", async () => {
    const workspace = await newWorkspace();
    const group = await newGroup(workspace, { capacity: 3 });
    const path = `/api/groups/${group.id}/members`;
    const [a, b, c, d] = [
      await newContact(workspace),
      await newContact(workspace),
      await newContact(workspace),
      await newContact(workspace),
    ];
    expect(await body(await workspace.call("POST", path, { contact_ids: [a, b, a] }), 200)).toMatchObject({ size: 2 });
    await body(await workspace.call("POST", path, { contact_ids: [c, d] }), 409);
    const missing = await body<{ detail: { loc: unknown[] }[] }>(
      await workspace.call("POST", path, { contact_ids: [c, crypto.randomUUID()] }),
      422,
    );
    expect(missing.detail[0]?.loc).toEqual(["body", "contact_ids", 1]);
    expect(await body(await workspace.call("POST", path, { contact_ids: [a, b, c] }), 200)).toMatchObject({ size: 3 });
    const page = await body<{ data: { contact_id: string }[]; total: number }>(await workspace.call("GET", path), 200);
    expect(page.total).toBe(3);
    expect(page.data.map(({ contact_id }) => contact_id)).toEqual([c, b, a]);
    await body(await workspace.call("PATCH", `/api/groups/${group.id}`, { capacity: 2 }), 409);
    const after = await body(await workspace.call("POST", `${path}/remove`, { contact_ids: [a, d] }), 200);
    expect(after).toMatchObject({ size: 2 });
  });

  it("never get beyond the capacity, however many are added at once", async () => {
    const workspace = await newWorkspace();
    const group = await newGroup(workspace, { capacity: 5 });
    const contacts = await Promise.all(Array.from({ length: 12 }, () => newContact(workspace)));
    const answers = await Promise.all(
      contacts.map((contact) =>
        workspace.call("POST", `/api/groups/${group.id}/members`, { contact_ids: [contact] }).then((r) => r.status),
      ),
    );
    expect(answers.filter((status) => status === 200).length).toBe(5);
    expect(await memberships(workspace)).toHaveLength(5);
    expect((await groupsOf(workspace))[0]?.size).toBe(5);
  });

  it("are in one automatic group at most, and in any number of others", async () => {
    const workspace = await newWorkspace();
    const [one, two, other] = [
      await newGroup(workspace, { auto_fill: true }),
      await newGroup(workspace, { auto_fill: true }),
      await newGroup(workspace),
    ];
    const contact = await newContact(workspace);
    const add = (group: Group) =>
      workspace.call("POST", `/api/groups/${group.id}/members`, { contact_ids: [contact] }).then((r) => r.status);
    expect([await add(one), await add(other), await add(two)]).toEqual([200, 200, 409]);
    // A group that becomes automatic must not make two of them.
    await body(await workspace.call("PATCH", `/api/groups/${other.id}`, { auto_fill: true }), 409);
    await body(await workspace.call("PATCH", `/api/groups/${one.id}`, { auto_fill: false }), 200);
    expect(await add(two)).toBe(200);
    await body(await workspace.call("PATCH", `/api/groups/${one.id}`, { auto_fill: true }), 409);
    const groups = await selectGroupsOf(shard(testRuntime(), 0), workspace.workspaceId, [contact]);
    expect(groups.get(contact)).toBe(two.id);
  });

  it("leave when the contact is deleted, and follow who it is merged into", async () => {
    const workspace = await newWorkspace();
    const [automatic, other] = [await newGroup(workspace, { auto_fill: true }), await newGroup(workspace)];
    const [winner, loser, gone] = [
      await newContact(workspace),
      await newContact(workspace),
      await newContact(workspace),
    ];
    const add = (group: Group, ...ids: string[]) =>
      workspace.call("POST", `/api/groups/${group.id}/members`, { contact_ids: ids });
    await body(await add(automatic, winner, gone), 200);
    await body(await add(other, winner, loser, gone), 200);
    expect((await workspace.call("DELETE", `/api/contacts/${gone}`)).status).toBe(204);
    expect((await groupsOf(workspace)).map(({ size }) => size)).toEqual([1, 2]);
    await mergePair(testRuntime(), { workspaceId: workspace.workspaceId, shard: 0, contactIds: [winner, loser] });
    expect((await groupsOf(workspace)).map(({ size }) => size)).toEqual([1, 1]);
    expect((await memberships(workspace)).map(({ contact_id }) => contact_id)).toEqual([winner, winner]);
    // Whoever was only in the loser's group is there as the winner now.
    const [third, fourth] = [await newContact(workspace), await newContact(workspace)];
    await body(await add(automatic, fourth), 200);
    await mergePair(testRuntime(), { workspaceId: workspace.workspaceId, shard: 0, contactIds: [third, fourth] });
    const members = await memberships(workspace);
    expect(members.filter(({ contact_id }) => contact_id === third)).toEqual([
      expect.objectContaining({ group_id: automatic.id }),
    ]);
    expect((await groupsOf(workspace)).map(({ size }) => size)).toEqual([2, 1]);
  });

  it("of several groups are walked once each, step by step", async () => {
    const workspace = await newWorkspace();
    const [one, two] = [await newGroup(workspace), await newGroup(workspace)];
    const contacts = await Promise.all(Array.from({ length: 5 }, () => newContact(workspace)));
    const add = (group: Group, ids: string[]) =>
      workspace.call("POST", `/api/groups/${group.id}/members`, { contact_ids: ids });
    await body(await add(one, contacts.slice(0, 3)), 200);
    await body(await add(two, contacts.slice(2)), 200);
    const seen: string[] = [];
    for (let place = ""; ; ) {
      const rows = await shard(testRuntime(), 0).all<{ asked: string; at: string }>(
        membersStep(2),
        workspace.workspaceId,
        place,
        JSON.stringify([one.id, two.id]),
      );
      seen.push(...rows.map(({ asked }) => asked));
      const last = rows.at(-1);
      if (!last) break;
      place = last.at;
    }
    expect(seen).toEqual(contacts.toSorted());
  });
});

describe("automatic filling", () => {
  it("takes new contacts of an import into the oldest group with room, in their order, and makes another when none has", async () => {
    const workspace = await newWorkspace();
    const other = await newGroup(workspace, { name: "By hand" });
    const first = await newGroup(workspace, { name: "Landing page", capacity: 3, auto_fill: true });
    const known = await newContact(workspace);
    const five = phones(5);
    await imports(workspace, five.slice(0, 2));
    expect((await groupsOf(workspace)).map(({ size }) => size)).toEqual([0, 2]);
    await imports(workspace, five);
    const groups = await groupsOf(workspace);
    expect(groups).toMatchObject([
      { id: other.id, size: 0 },
      { id: first.id, name: "Landing page", size: 3 },
      { name: "Landing page 2", capacity: 3, size: 2, auto_fill: true },
    ]);
    await expectFilled(workspace, 5);
    expect((await memberships(workspace)).some(({ contact_id }) => contact_id === known)).toBe(false);
    await imports(workspace, phones(2));
    expect((await groupsOf(workspace)).map(({ name, size }) => `${name}: ${size}`)).toEqual([
      "By hand: 0",
      "Landing page: 3",
      "Landing page 2: 3",
      "Landing page 3: 1",
    ]);
    // A place that is given up is taken first.
    const [member] = (await memberships(workspace)).filter(({ group_id }) => group_id === first.id);
    await workspace.call("DELETE", `/api/groups/${first.id}/members/${member?.contact_id}`);
    await imports(workspace, phones(1));
    expect((await groupsOf(workspace)).map(({ size }) => size)).toEqual([0, 3, 3, 1]);
  });

  it("leaves out who is created by the API, was there before, or was taken out", async () => {
    const workspace = await newWorkspace();
    const phone = nextPhone();
    await imports(workspace, [phone]);
    const group = await newGroup(workspace, { auto_fill: true });
    await newContact(workspace);
    await imports(workspace, [phone]);
    expect(await memberships(workspace)).toEqual([]);
    const fresh = nextPhone();
    await imports(workspace, [fresh]);
    const [member] = await memberships(workspace);
    await workspace.call("DELETE", `/api/groups/${group.id}/members/${member?.contact_id}`);
    await imports(workspace, [fresh, phone]);
    expect(await memberships(workspace)).toEqual([]);
  });

  it("takes a deleted contact that an import brings back, once, though two rows name it", async () => {
    const workspace = await newWorkspace();
    await newGroup(workspace, { auto_fill: true, capacity: 2 });
    // The same person in both spellings of Brazil.
    await imports(workspace, ["+5511987654321"]);
    const [member] = await memberships(workspace);
    expect((await workspace.call("DELETE", `/api/contacts/${member?.contact_id}`)).status).toBe(204);
    expect(await memberships(workspace)).toEqual([]);
    await imports(workspace, ["+551187654321", "+5511987654321", nextPhone()]);
    await expectFilled(workspace, 2);
  });

  it("does nothing in a workspace without automatic groups", async () => {
    const workspace = await newWorkspace();
    await newGroup(workspace);
    await imports(workspace, phones(3));
    expect(await memberships(workspace)).toEqual([]);
    expect(await groupsOf(workspace)).toHaveLength(1);
  });

  it("keeps every promise when 1,000 contacts arrive at once from many imports that overlap", async () => {
    const workspace = await newWorkspace();
    await newGroup(workspace, { name: "Group 1", auto_fill: true });
    const shared = phones(50);
    const files = Array.from({ length: 10 }, () => [...phones(95), ...shared]);
    await Promise.all(files.map((file) => imports(workspace, file)));
    await expectFilled(workspace, 1000);
    expect((await groupsOf(workspace)).map(({ name, size }) => `${name}: ${size}`)).toEqual([
      "Group 1: 250",
      "Group 2: 250",
      "Group 3: 250",
      "Group 4: 250",
    ]);
  });

  it("costs two rows per contact and a few reads each, and nearly nothing without automatic groups, however many groups there are", async () => {
    const workspace = await newWorkspace();
    const rows = Array.from({ length: 2000 }, (_, n) => ({ id: newUuid(), n }));
    const add = (auto: number, size: number) =>
      env.SHARD_0.prepare(
        `INSERT INTO contact_groups (workspace_id, id, name, capacity, auto_fill, size, created_at, updated_at)
         SELECT ?1, j.value ->> 'id', 'G ' || (j.value ->> 'n'), 250, ?3, ?4, 0, 0 FROM json_each(?2) j`,
      )
        .bind(workspace.workspaceId, JSON.stringify(rows.splice(0, 1000)), auto, size)
        .run();
    const fill = async () => {
      const db = shard(testRuntime(), 0);
      const people = Array.from({ length: 1000 }, newUuid);
      const sql = "SELECT j.value AS id, j.key AS at FROM json_each(?1) j";
      const given = { workspaceId: workspace.workspaceId, sql, params: [JSON.stringify(people)], most: people.length };
      await db.batch(fillGroups(given, newUuid, Date.now()));
      return db.cost;
    };
    await add(0, 10);
    const idle = await fill();
    expect(idle.rowsWritten).toBe(0);
    expect(idle.rowsRead).toBeLessThan(100);
    // A thousand automatic groups, all full.
    await add(1, 250);
    const busy = await fill();
    expect(busy.rowsRead).toBeLessThan(20_000);
    expect(busy.rowsWritten).toBeLessThan(2 * 1000 + 100);
    expect(await memberships(workspace)).toHaveLength(1000);
  });

  it("makes as many groups as a batch needs, be they for one each", async () => {
    const workspace = await newWorkspace();
    await newGroup(workspace, { name: "Pairs", capacity: 1, auto_fill: true });
    await Promise.all([imports(workspace, phones(20)), imports(workspace, phones(20))]);
    await expectFilled(workspace, 40);
    expect(await groupsOf(workspace)).toHaveLength(40);
  });
});
