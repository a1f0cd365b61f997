import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { api } from "../src/api";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";
import { deliver, eventually, fireCron, heldQueues } from "./support/pipeline";

vi.setConfig({ testTimeout: 40_000 });

const MINUTE = 60_000;

interface Result {
  status: string;
  error: string | null;
  pages: number;
  read: number;
  created: number;
  known: number;
  failed: number;
}

interface Source {
  id: string;
  status: string;
  progress: (Result & { next_attempt_at: string | null }) | null;
  last_result: Result | null;
  next_sync_at: string | null;
  has_credentials: boolean;
}

interface SiteCall {
  path: string;
  query: Record<string, string>;
  authorization: string | null;
  status: number;
}

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

const outbound = globalThis.fetch.bind(globalThis);

/** A WordPress of one's own in the sandbox. */
async function newSite(order: Record<string, unknown>) {
  const site = crypto.randomUUID();
  const change = async (more: Record<string, unknown>) => {
    const response = await outbound("https://sandbox.test/sandbox/wordpress", {
      method: "POST",
      body: JSON.stringify({ site, ...more }),
    });
    await body(response, 200);
  };
  await change(order);
  return {
    url: `https://${site}.wp.example.com`,
    change,
    async calls(): Promise<SiteCall[]> {
      const response = await outbound(`https://sandbox.test/sandbox/wordpress?site=${site}`);
      return (await body<{ calls: SiteCall[] }>(response, 200)).calls;
    },
  };
}

type Site = Awaited<ReturnType<typeof newSite>>;

let people = 0;

/** Customers as WooCommerce shows them, with ids from `from` on. */
function customers(n: number, from = 1) {
  return Array.from({ length: n }, (_, at) => {
    people += 1;
    return {
      id: from + at,
      email: `c${people}@example.com`,
      first_name: "Ann",
      last_name: `Nr ${people}`,
      billing: { first_name: "Ann", phone: `+1404${1_000_000 + people}`, country: "US" },
      meta_data: [{ id: 1, key: "wa_optin", value: at % 2 === 0 ? "yes" : "no" }],
    };
  });
}

async function newSource(workspace: TestWorkspace, given: Record<string, unknown>): Promise<Source> {
  const response = await workspace.call("POST", "/api/wordpress/sources", {
    workspace_id: workspace.workspaceId,
    name: "Shop",
    kind: "woocommerce",
    ...given,
  });
  return body<Source>(response, 201);
}

async function get(workspace: TestWorkspace, id: string): Promise<Source> {
  return body<Source>(await workspace.call("GET", `/api/wordpress/sources/${id}`), 200);
}

/** A workspace whose readings run when a test says so. */
function held(workspace: TestWorkspace) {
  const { env: base, held: queues } = heldQueues({
    ...env,
    PIPELINE: JSON.stringify({ providerTimeout: 1500 }),
  } as unknown as Env);
  const jobs = () => queues.get("BULK") ?? [];
  return {
    env: base,
    jobs,
    async sync(id: string, given: Record<string, unknown> = {}): Promise<Source> {
      const request = new Request(`http://switchboard.test/api/wordpress/sources/${id}/sync`, {
        method: "POST",
        headers: { Authorization: `Bearer ${workspace.token}`, "Content-Type": "application/json" },
        body: JSON.stringify(given),
      });
      return body<Source>(await api.fetch(request, base, createExecutionContext()), 202);
    },
    /** Runs what waits, whatever its delay, at `now`; answers the delays. */
    async run(now = Date.now()): Promise<number[]> {
      const due = jobs().splice(0);
      await deliver(
        "bulk",
        due.map((job) => job.body),
        { env: base, overrides: { clock: () => now } },
      );
      return due.map((job) => job.delaySeconds);
    },
  };
}

/** Reads a source to the end. */
async function read(workspace: TestWorkspace, id: string, given: Record<string, unknown> = {}): Promise<Result> {
  const queues = held(workspace);
  await queues.sync(id, given);
  for (let run = 0; run < 50 && queues.jobs().length > 0; run += 1) await queues.run();
  const source = await get(workspace, id);
  expect(source.status).toBe("idle");
  if (!source.last_result) throw new Error("There is no result");
  return source.last_result;
}

interface Contact {
  phone_number: string;
  name: string | null;
  opted_in: boolean;
  source: string;
  tags: string[];
  consent: { source: string; reference: string | null } | null;
}

async function contacts(workspace: TestWorkspace): Promise<Map<string, Contact>> {
  const all = new Map<string, Contact>();
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page: { data: Contact[]; total: number; next_cursor: string | null } = await body(
      await workspace.call(
        "GET",
        `/api/contacts?limit=100&workspace_id=${workspace.workspaceId}${cursor === "" ? "" : `&cursor=${cursor}`}`,
      ),
      200,
    );
    for (const contact of page.data) all.set(contact.phone_number, contact);
    cursor = page.next_cursor;
    if (cursor === null) expect(page.total).toBe(all.size);
  }
  return all;
}

const phonesOf = (list: readonly { billing: { phone: string } }[]) => list.map(({ billing }) => billing.phone).sort();

describe("a WooCommerce source", () => {
  it("is read by the queue itself: numbers, names, consent and groups, with its credentials shown nowhere", async () => {
    const workspace = await newWorkspace();
    const list = customers(230);
    const [odd, national] = list;
    if (odd && national) {
      odd.billing.phone = "call me";
      national.billing = { first_name: "Bo", phone: "030 1234567", country: "DE" };
    }
    const site = await newSite({ customers: list, user: "ck_1", secret: "cs_ümlaut" });
    await body(
      await workspace.call("POST", "/api/groups", { name: "Customers 1", capacity: 100, auto_fill: true }),
      201,
    );
    const source = await newSource(workspace, {
      url: site.url,
      credentials: { user: "ck_1", secret: "cs_ümlaut" },
      config: { opted_in: { field: "/meta_data/wa_optin" }, tags: ["shop"] },
    });
    expect(JSON.stringify(source)).not.toContain("cs_");
    expect(source).toMatchObject({ status: "idle", last_result: null, has_credentials: true });
    const begun = await body<Source>(await workspace.call("POST", `/api/wordpress/sources/${source.id}/sync`), 202);
    expect(begun.status).toBe("running");
    const done = await eventually(async () => {
      const now = await get(workspace, source.id);
      expect(now.status).toBe("idle");
      return now;
    });
    expect(done.last_result).toMatchObject({
      status: "completed",
      error: null,
      read: 230,
      created: 229,
      known: 0,
      failed: 1,
    });
    const found = await contacts(workspace);
    expect(found.size).toBe(229);
    expect(found.get(list[2]?.billing.phone ?? "")).toMatchObject({
      name: `Ann ${list[2]?.last_name}`,
      opted_in: true,
      source: "wordpress",
      tags: ["shop"],
      consent: { source: "wordpress", reference: source.id },
    });
    expect(found.get(list[3]?.billing.phone ?? "")).toMatchObject({ opted_in: false, consent: null });
    expect(found.get("+49301234567")).toBeDefined();
    const groups = await body<{ data: { name: string; size: number }[] }>(
      await workspace.call("GET", "/api/groups"),
      200,
    );
    expect(groups.data.map(({ name, size }) => `${name}: ${size}`)).toEqual([
      "Customers 3: 29",
      "Customers 2: 100",
      "Customers 1: 100",
    ]);
    expect((await site.calls()).every(({ status }) => status === 200)).toBe(true);
    const row = await env.SHARD_0.prepare("SELECT * FROM wordpress_sources WHERE id = ?1").bind(source.id).first();
    expect(JSON.stringify(row)).not.toContain("cs_");
  });

  it("is read incrementally: the next reading asks for what is new only", async () => {
    const workspace = await newWorkspace();
    const list = customers(250);
    const site = await newSite({ customers: list });
    const source = await newSource(workspace, { url: site.url });
    expect(await read(workspace, source.id)).toMatchObject({ read: 250, created: 250, pages: 3 });
    const before = (await site.calls()).length;
    expect(await read(workspace, source.id)).toMatchObject({ read: 0, created: 0, pages: 1 });
    const more = customers(3, 251);
    await site.change({ customers: [...list, ...more] });
    expect(await read(workspace, source.id)).toMatchObject({ read: 3, created: 3, pages: 1 });
    expect((await site.calls()).length).toBe(before + 2);
    expect(await read(workspace, source.id, { full: true })).toMatchObject({ read: 253, created: 0, known: 253 });
    expect((await contacts(workspace)).size).toBe(253);
  });

  it.each([
    ["one that was read", [250]],
    ["many that were read", Array.from({ length: 90 }, (_, n) => 161 + n)],
    ["the one at the edge", [151, 150]],
    ["all that were read", Array.from({ length: 100 }, (_, n) => 151 + n)],
  ])("misses nobody when %s are deleted at the site meanwhile", async (_, ids) => {
    const workspace = await newWorkspace();
    const list = customers(250);
    const site = await newSite({ customers: list, faults: [{ kind: "shrink", skip: 1, ids }] });
    const source = await newSource(workspace, { url: site.url });
    expect(await read(workspace, source.id)).toMatchObject({ status: "completed" });
    const found = await contacts(workspace);
    const stay = list.filter(({ id }) => !ids.includes(id));
    expect(phonesOf(stay).filter((phone) => !found.has(phone))).toEqual([]);
  });

  it("takes up a reading whose job was lost where it stood, and reads no page twice", async () => {
    const workspace = await newWorkspace();
    const list = customers(500);
    const site = await newSite({ customers: list });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    await queues.run();
    expect(await get(workspace, source.id)).toMatchObject({ status: "running", progress: { pages: 3, read: 298 } });
    // The job of the rest is lost. A cron of the minute finds it after a while.
    queues.jobs().splice(0);
    await fireCron("* * * * *", Date.now() + 1000, { env: queues.env });
    expect(queues.jobs()).toEqual([]);
    const later = Date.now() + 3 * MINUTE;
    await fireCron("* * * * *", later, { env: queues.env });
    expect(queues.jobs()).toHaveLength(1);
    for (let run = 0; run < 5 && queues.jobs().length > 0; run += 1) await queues.run(later);
    expect((await get(workspace, source.id)).last_result).toMatchObject({ read: 500, created: 500, known: 0 });
    const offsets = (await site.calls()).map(({ query }) => query.offset);
    expect(new Set(offsets).size).toBe(offsets.length);
  });

  it("is not read twice by jobs that come twice, or at once", async () => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(150) });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    await queues.sync(source.id);
    const [job] = queues.jobs();
    expect(queues.jobs()).toHaveLength(1);
    await Promise.all([1, 2, 3].map(() => deliver("bulk", [job?.body, job?.body], { env: queues.env })));
    expect((await get(workspace, source.id)).last_result).toMatchObject({
      read: 150,
      created: 150,
      known: 0,
      pages: 2,
    });
    expect(await site.calls()).toHaveLength(2);
    expect((await contacts(workspace)).size).toBe(150);
  });

  it("leaves out of groups and lists whoever said so: opt-outs stay, the deleted stay deleted", async () => {
    const workspace = await newWorkspace();
    const [out, gone, known] = customers(3);
    if (!out || !gone || !known) throw new Error("There are three");
    const add = (given: Record<string, unknown>) =>
      workspace
        .call("POST", "/api/contacts", { workspace_id: workspace.workspaceId, ...given })
        .then((r) => body(r, 201));
    await add({ phone_number: out.billing.phone, opted_in: false });
    const deleted = await add({ phone_number: gone.billing.phone });
    await workspace.call("DELETE", `/api/contacts/${String(deleted.id)}`);
    await add({ phone_number: known.billing.phone, name: "As we know her" });
    await workspace.call("POST", "/api/groups", { name: "All", auto_fill: true });
    const site = await newSite({ customers: [out, gone, known] });
    const source = await newSource(workspace, { url: site.url, config: { opted_in: "always" } });
    expect(await read(workspace, source.id)).toMatchObject({ read: 3, created: 0, known: 3 });
    const found = await contacts(workspace);
    expect(found.size).toBe(2);
    expect(found.get(out.billing.phone)).toMatchObject({ opted_in: false });
    expect(found.get(known.billing.phone)).toMatchObject({ opted_in: true, name: "As we know her", source: "api" });
    const groups = await body<{ data: { size: number }[] }>(await workspace.call("GET", "/api/groups"), 200);
    expect(groups.data).toMatchObject([{ size: 0 }]);
  });
});

describe("other kinds", () => {
  it("reads users where the source says their numbers stand", async () => {
    const workspace = await newWorkspace();
    const users = Array.from({ length: 120 }, (_, at) => ({
      id: at + 1,
      name: `User ${at}`,
      meta: { phone: `+1505${1_000_000 + at}` },
    }));
    const site = await newSite({ users, user: "admin", secret: "abcd efgh ijkl" });
    const source = await newSource(workspace, {
      kind: "wp_users",
      url: `${site.url}/`,
      credentials: { user: "admin", secret: "abcd efgh ijkl" },
      config: { phone: "/meta/phone" },
    });
    expect(await read(workspace, source.id)).toMatchObject({ read: 120, created: 120 });
    expect((await contacts(workspace)).get("+15051000007")).toMatchObject({ name: "User 7", opted_in: false });
    expect((await site.calls())[0]).toMatchObject({
      path: "/wp-json/wp/v2/users",
      query: { context: "edit", per_page: "100" },
      authorization: `Basic ${btoa("admin:abcd efgh ijkl")}`,
    });
  });

  it("reads the entries of one Gravity Forms form, each once", async () => {
    const workspace = await newWorkspace();
    const entry = (id: number, form: number) => ({
      id,
      form_id: String(form),
      "1.3": "Eve",
      "1.6": `Nr ${id}`,
      "3": `+1606${1_000_000 + id}`,
      "5.1": id % 2 === 0 ? "I agree" : "",
    });
    const entries = Array.from({ length: 210 }, (_, at) => entry(at + 1, at < 200 ? 7 : 8));
    const site = await newSite({ entries });
    const source = await newSource(workspace, {
      kind: "gravity_forms",
      url: site.url,
      config: {
        form_id: 7,
        phone: "/3",
        name: ["/1.3", "/1.6"],
        opted_in: { field: "/5.1", values: ["i agree"] },
      },
    });
    expect(await read(workspace, source.id)).toMatchObject({ read: 200, created: 200 });
    const found = await contacts(workspace);
    expect(found.get("+16061000002")).toMatchObject({ name: "Eve Nr 2", opted_in: true });
    expect(found.get("+16061000003")).toMatchObject({ opted_in: false });
    await site.change({ entries: [...entries, entry(211, 7)] });
    expect(await read(workspace, source.id)).toMatchObject({ read: 1, created: 1, pages: 1 });
  });

  const lead = (id: number, modified = "2026-01-01T00:00:00Z") => ({
    id,
    modified,
    acf: { tel: `+1707${1_000_000 + id}`, "full/name": `Lead ${id}` },
  });
  const custom = {
    kind: "custom",
    config: { path: "/wp-json/custom/v1/leads?lang=en", phone: "/acf/tel", name: ["/acf/full~1name"] },
  };

  it("reads any list page by page, and asks for what changed when the list can tell", async () => {
    const workspace = await newWorkspace();
    const leads = Array.from({ length: 205 }, (_, at) => lead(at + 1));
    const site = await newSite({ leads });
    const source = await newSource(workspace, {
      ...custom,
      url: site.url,
      config: { ...custom.config, since: "modified_after" },
    });
    expect(await read(workspace, source.id)).toMatchObject({ read: 205, created: 205, pages: 3 });
    expect((await contacts(workspace)).get("+17071000009")).toMatchObject({ name: "Lead 9" });
    await site.change({ leads: [...leads, lead(206, new Date().toISOString())] });
    expect(await read(workspace, source.id)).toMatchObject({ read: 1, created: 1, pages: 1 });
    const calls = await site.calls();
    expect(calls.map(({ query }) => query.page)).toEqual(["1", "2", "3", "1"]);
    expect(calls.every(({ query }) => query.lang === "en")).toBe(true);
  });

  it.each([
    [1, 120],
    [2, 120],
    [2, 200],
  ])("misses nobody when after %i pages %i records are gone", async (skip, n) => {
    const workspace = await newWorkspace();
    const leads = Array.from({ length: 350 }, (_, at) => lead(at + 1));
    const ids = Array.from({ length: n }, (_, at) => at + 1);
    const site = await newSite({ leads, faults: [{ kind: "shrink", skip, ids }] });
    const source = await newSource(workspace, { ...custom, url: site.url });
    expect(await read(workspace, source.id)).toMatchObject({ status: "completed" });
    const found = await contacts(workspace);
    expect(leads.slice(n).filter(({ acf }) => !found.has(acf.tel))).toEqual([]);
  });
});

describe("a site that misbehaves", () => {
  it("is left alone for as long as it asks", async () => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(10), faults: [{ kind: "rate_limit", retry_after: 70 }] });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    const begun = Date.now();
    await queues.run(begun);
    expect(queues.jobs()).toMatchObject([{ delaySeconds: 70 }]);
    const waiting = await get(workspace, source.id);
    expect(waiting).toMatchObject({ status: "running", progress: { error: expect.stringContaining("429") } });
    // A job that comes before its time does not call.
    const [job] = queues.jobs();
    await deliver("bulk", [job?.body], { env: queues.env, overrides: { clock: () => begun + 69_000 } });
    expect(await site.calls()).toHaveLength(1);
    await queues.run(begun + 70_000);
    expect((await get(workspace, source.id)).last_result).toMatchObject({ status: "completed", created: 10 });
  });

  it.each([
    ["answers with an error", { kind: "error", status: 502 }, "502"],
    ["answers with half a page of a warning", { kind: "broken_json" }, "not JSON"],
    ["breaks the connection", { kind: "reset" }, "connection"],
    ["is too slow", { kind: "slow", ms: 3000 }, "No answer within 1.5 seconds"],
  ])("that %s is asked again after longer and longer pauses", async (_, fault, said) => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(10), faults: [{ ...fault, count: 3 }] });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    let now = Date.now();
    const delays: number[] = [];
    for (let run = 0; run < 3; run += 1) {
      await queues.run(now);
      expect((await get(workspace, source.id)).progress?.error).toContain(said);
      const delay = queues.jobs()[0]?.delaySeconds ?? 0;
      delays.push(delay);
      now += delay * 1000;
    }
    expect(delays).toEqual([15, 30, 60]);
    await queues.run(now);
    expect((await get(workspace, source.id)).last_result).toMatchObject({ status: "completed", created: 10 });
  });

  it("for long ends the reading with the reason, and the next goes on where it stood", async () => {
    const workspace = await newWorkspace();
    const list = customers(500);
    const site = await newSite({ customers: list, faults: [{ kind: "error", skip: 2, count: 8 }] });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    let now = Date.now();
    for (let run = 0; run < 20 && queues.jobs().length > 0; run += 1) {
      now += (queues.jobs()[0]?.delaySeconds ?? 0) * 1000;
      await queues.run(now);
    }
    const failed = await get(workspace, source.id);
    expect(failed).toMatchObject({ status: "idle", last_result: { status: "failed", read: 199, created: 199 } });
    expect(failed.last_result?.error).toContain("503");
    expect(Date.parse(failed.next_sync_at ?? "")).toBeGreaterThan(now);
    expect(await read(workspace, source.id)).toMatchObject({ status: "completed", read: 301, created: 301 });
    expect((await contacts(workspace)).size).toBe(500);
  });

  it("whose credentials are wrong is told so at once, in its words", async () => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(1), user: "ck_1", secret: "cs_1" });
    const source = await newSource(workspace, { url: site.url, credentials: { user: "ck_1", secret: "wrong-one" } });
    const result = await read(workspace, source.id);
    expect(result).toMatchObject({ status: "failed", created: 0 });
    expect(result.error).toContain("woocommerce_rest_cannot_view");
    expect(await site.calls()).toHaveLength(1);
  });

  it("never keeps the others waiting, slow as it may be", async () => {
    const workspace = await newWorkspace();
    const slow = await newSite({ customers: customers(1), faults: [{ kind: "slow", ms: 3000, count: 5 }] });
    const fast = await newSite({ customers: customers(250) });
    const slowSource = await newSource(workspace, { url: slow.url });
    const fastSources = await Promise.all([1, 2].map(() => newSource(workspace, { url: fast.url })));
    const queues = held(workspace);
    await queues.sync(slowSource.id);
    for (const { id } of fastSources) await queues.sync(id);
    let over = false;
    const run = queues.run().then(() => {
      over = true;
    });
    for (const { id } of fastSources) {
      await eventually(async () => expect((await get(workspace, id)).status).toBe("idle"));
    }
    expect(over).toBe(false);
    await run;
    expect((await get(workspace, slowSource.id)).status).toBe("running");
  });
});

describe("the cron", () => {
  it("starts what is due every 15 minutes, and nothing that is disabled", async () => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(2) });
    const on = await newSource(workspace, { url: site.url });
    const off = await newSource(workspace, { url: site.url, enabled: false });
    const queues = held(workspace);
    const turn = (Math.floor(Date.now() / (15 * MINUTE)) + 1) * 15 * MINUTE;
    const ours = () => queues.jobs().filter(({ body: job }) => JSON.stringify(job).includes(workspace.workspaceId));
    await Promise.all([1, 2].map(() => fireCron("*/15 * * * *", turn, { env: queues.env })));
    expect(ours()).toMatchObject([{ body: { kind: "wordpress.sync", id: on.id } }]);
    await queues.run(turn);
    const done = await get(workspace, on.id);
    expect(done).toMatchObject({ status: "idle", last_result: { created: 2 } });
    expect(Date.parse(done.next_sync_at ?? "")).toBe(turn + 15 * MINUTE);
    expect((await get(workspace, off.id)).last_result).toBeNull();
    await fireCron("*/15 * * * *", turn + 14 * MINUTE, { env: queues.env });
    expect(ours()).toEqual([]);
    await fireCron("*/15 * * * *", turn + 15 * MINUTE, { env: queues.env });
    expect(ours()).toHaveLength(1);
  });
});

describe("POST /api/wordpress/sources", () => {
  it("refuses hosts that are not public", async () => {
    const workspace = await newWorkspace();
    for (const url of [
      "http://shop.example.com",
      "https://127.0.0.1",
      "https://0x7f000001",
      "https://[::1]",
      "https://localhost",
      "https://intranet",
      "https://router.lan",
      "https://shop.example.com:8443",
      "https://user:pass@shop.example.com",
      "https://switchboard.test",
      "https://shop.example.com/?x=1",
      "ftp://shop.example.com",
    ]) {
      const given = { workspace_id: workspace.workspaceId, name: "x", kind: "woocommerce", url };
      expect((await workspace.call("POST", "/api/wordpress/sources", given)).status, url).toBe(422);
    }
  });

  it("refuses a source that could not find anybody's number, and members of other kinds", async () => {
    const workspace = await newWorkspace();
    for (const [kind, config] of [
      ["wp_users", {}],
      ["gravity_forms", { name: ["/1"] }],
      ["custom", { phone: "/tel" }],
      ["custom", { phone: "tel", path: "/x" }],
      ["custom", { phone: "/tel", path: "//evil.example.com/x" }],
      ["woocommerce", { form_id: 7 }],
      ["woocommerce", { opted_in: true }],
      ["blog", {}],
    ] as const) {
      const given = { name: "x", kind, url: "https://shop.example.com", config };
      const response = await workspace.call("POST", "/api/wordpress/sources", given);
      expect(response.status, `${kind} ${JSON.stringify(config)}`).toBe(422);
    }
  });

  it("sends stored credentials to no other host", async () => {
    const workspace = await newWorkspace();
    const [own, other] = [await newSite({ customers: [] }), await newSite({ customers: [] })];
    const source = await newSource(workspace, { url: own.url, credentials: { user: "u", secret: "s" } });
    const path = `/api/wordpress/sources/${source.id}`;
    await body(await workspace.call("PATCH", path, { url: other.url }), 422);
    await body(await workspace.call("PATCH", path, { url: `${own.url}/blog` }), 200);
    const moved = await body<Source>(await workspace.call("PATCH", path, { url: other.url, credentials: null }), 200);
    expect(moved.has_credentials).toBe(false);
    await read(workspace, source.id);
    expect(await other.calls()).toMatchObject([{ authorization: null }]);
  });

  it("ends a reading under way when what it reads changes, and reads everything then", async () => {
    const workspace = await newWorkspace();
    const site = await newSite({ customers: customers(500) });
    const source = await newSource(workspace, { url: site.url });
    const queues = held(workspace);
    await queues.sync(source.id);
    await queues.run();
    await body(
      await workspace.call("PATCH", `/api/wordpress/sources/${source.id}`, { config: { tags: ["new"] } }),
      200,
    );
    await queues.run();
    expect(await site.calls()).toHaveLength(3);
    expect(await get(workspace, source.id)).toMatchObject({ status: "idle", last_result: null });
    expect(await read(workspace, source.id)).toMatchObject({ read: 500, created: 202, known: 298 });
  });

  it("shows what would be read, and why not, without storing it", async () => {
    const workspace = await newWorkspace({ settings: { default_country: "DE" } });
    const list = customers(8);
    const site = await newSite({ customers: list });
    const source = await newSource(workspace, {
      url: site.url,
      config: { opted_in: { field: "/meta_data/wa_optin" } },
    });
    const path = `/api/wordpress/sources/${source.id}`;
    const shown = await body<{ total: number; sample: unknown[] }>(await workspace.call("POST", `${path}/test`), 200);
    expect(shown).toMatchObject({ ok: true, error: null, total: 8 });
    expect(shown.sample).toHaveLength(5);
    expect(shown.sample[0]).toEqual({
      phone_number: list[7]?.billing.phone,
      name: `Ann ${list[7]?.last_name}`,
      opted_in: false,
    });
    await body(await workspace.call("PATCH", path, { config: { phone: "/nowhere" } }), 200);
    expect(await body(await workspace.call("POST", `${path}/test`), 200)).toMatchObject({
      ok: false,
      error: "No record has a readable phone number",
    });
    expect((await contacts(workspace)).size).toBe(0);
  });

  it("is for administrators of the workspace alone", async () => {
    const workspace = await newWorkspace();
    const source = await newSource(workspace, { url: "https://shop.example.com" });
    const [member, stranger] = [await memberWithRole(workspace, "MEMBER"), await newWorkspace()];
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/sync"],
      ["POST", "/test"],
    ] as const) {
      expect((await member.call(method, `/api/wordpress/sources/${source.id}${path}`)).status).toBe(403);
      expect((await stranger.call(method, `/api/wordpress/sources/${source.id}${path}`)).status).toBe(404);
    }
    expect((await workspace.call("DELETE", `/api/wordpress/sources/${source.id}`)).status).toBe(204);
    expect((await workspace.call("GET", `/api/wordpress/sources/${source.id}`)).status).toBe(404);
  });
});

describe("sources and imports together", () => {
  it("fill groups without a gap when 1,000 contacts arrive from all of them at once", async () => {
    const workspace = await newWorkspace();
    await body(await workspace.call("POST", "/api/groups", { name: "Group 1", auto_fill: true }), 201);
    const shops = await Promise.all(
      [1, 2, 3].map(async () => {
        const site: Site = await newSite({ customers: customers(200) });
        return newSource(workspace, { url: site.url });
      }),
    );
    const upload = (from: number) => {
      const rows = Array.from({ length: 100 }, (_, at) => `+1808${2_000_000 + from + at}`);
      const form = new FormData();
      form.append("file", new File([`phone\n${rows.join("\n")}\n`], "contacts.csv"));
      return workspace
        .call("POST", `/api/contacts/import?workspace_id=${workspace.workspaceId}`, form)
        .then((response) => body(response, 200));
    };
    await Promise.all([...shops.map(({ id }) => read(workspace, id)), ...[0, 100, 200, 300].map(upload)]);
    const groups = await body<{ data: { name: string; size: number }[] }>(
      await workspace.call("GET", "/api/groups"),
      200,
    );
    expect(groups.data.map(({ size }) => size)).toEqual([250, 250, 250, 250]);
    const { results } = await env.SHARD_0.prepare(
      "SELECT count(*) AS n, count(DISTINCT contact_id) AS people FROM contact_group_members WHERE workspace_id = ?1",
    )
      .bind(workspace.workspaceId)
      .all();
    expect(results).toEqual([{ n: 1000, people: 1000 }]);
  });
});
