import { env } from "cloudflare:workers";
import { strToU8, zipSync } from "fflate";
import { describe, expect, it, vi } from "vitest";
import { runDueImports } from "../src/imports/jobs";
import { receiveImport } from "../src/imports/service";
import { shard } from "../src/platform/runtime";
import { memberWithRole, newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";
import { deliver, heldQueues } from "./support/pipeline";

interface Result {
  total_rows: number;
  imported: number;
  updated: number;
  failed: number;
  results: { row_number: number; phone_number: string; status: string; reason: string | null }[];
  import_id?: string;
  status?: string;
}

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

function upload(workspace: TestWorkspace, content: string | Uint8Array, name = "contacts.csv"): Promise<Response> {
  const form = new FormData();
  form.append("file", new File([content as Uint8Array<ArrayBuffer>], name));
  return workspace.call("POST", `/api/contacts/import?workspace_id=${workspace.workspaceId}`, form);
}

async function imported(workspace: TestWorkspace, content: string | Uint8Array, name?: string): Promise<Result> {
  return body<Result>(await upload(workspace, content, name), 200);
}

interface Person {
  phone_number: string;
  name: string | null;
  tags: string[];
  opted_in: boolean;
  source: string;
  consent: { source: string; reference: string | null } | null;
}

async function contacts(workspace: TestWorkspace): Promise<Person[]> {
  const page = await body<{ data: Person[]; total: number }>(
    await workspace.call("GET", `/api/contacts?limit=100&workspace_id=${workspace.workspaceId}`),
    200,
  );
  expect(page.total).toBe(page.data.length);
  return page.data.reverse();
}

async function objectsOf(workspace: TestWorkspace): Promise<string[]> {
  const { objects } = await env.MEDIA.list({ prefix: `imports/${workspace.workspaceId}/` });
  return objects.map((object) => object.key);
}

async function count(workspace: TestWorkspace): Promise<number> {
  const row = await env.SHARD_0.prepare(
    "SELECT count(*) AS n FROM contacts WHERE workspace_id = ?1 AND deleted_at IS NULL",
  )
    .bind(workspace.workspaceId)
    .first<{ n: number }>();
  return row?.n ?? 0;
}

const number = (n: number) => `+1202${String(1_000_000 + n)}`;

/** Text in an encoding that TextEncoder does not write. */
function utf16(text: string, little: boolean, bom: boolean): Uint8Array {
  const units = bom ? `\u{FEFF}${text}` : text;
  const bytes = new Uint8Array(units.length * 2);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < units.length; at += 1) view.setUint16(at * 2, units.charCodeAt(at), little);
  return bytes;
}

describe("an import of contacts", () => {
  it("answers the documented file with exactly its totals", async () => {
    const workspace = await newWorkspace();
    const answer = await imported(
      workspace,
      "phone,name,tags\n+1234567890,John Doe,customer;vip\n+0987654321,Jane Smith,customer\n1234567890,Bob Johnson,prospect\n",
    );
    expect(answer).toEqual({
      total_rows: 3,
      imported: 2,
      updated: 1,
      failed: 0,
      results: [
        { row_number: 1, phone_number: "+1234567890", status: "imported", reason: null },
        { row_number: 2, phone_number: "+0987654321", status: "imported", reason: null },
        { row_number: 3, phone_number: "1234567890", status: "updated", reason: null },
      ],
    });
    expect(await contacts(workspace)).toMatchObject([
      { phone_number: "+1234567890", name: "Bob Johnson", tags: ["prospect"], opted_in: true, source: "import" },
      { phone_number: "+0987654321", name: "Jane Smith", tags: ["customer"], consent: { source: "import" } },
    ]);
    const again = await imported(workspace, "phone\n+1234567890\n+0987654321");
    expect(again).toMatchObject({ total_rows: 2, imported: 0, updated: 2 });
    expect(await contacts(workspace)).toMatchObject([
      { name: "Bob Johnson", tags: ["prospect"] },
      { name: "Jane Smith" },
    ]);
  });

  const text = 'phone;name;tags\r\n+4915112345678;Jörg Müller;a,b\r\n+4915112345679;"Zoë; ""Z""";c\r\n';
  const western = Uint8Array.from(text, (char) => char.charCodeAt(0));
  it.each([
    ["UTF-8", new TextEncoder().encode(text)],
    ["UTF-8 with a byte order mark", new TextEncoder().encode(`\u{FEFF}${text}`)],
    ["UTF-16 LE", utf16(text, true, true)],
    ["UTF-16 BE", utf16(text, false, true)],
    ["UTF-16 LE without a mark", utf16(text, true, false)],
    ["UTF-16 BE without a mark", utf16(text, false, false)],
    ["Windows-1252", western],
    [
      "tabs",
      new TextEncoder().encode(
        text.replaceAll('"Zoë; ""Z"""', '"Zoë~ ""Z"""').replaceAll(";", "\t").replaceAll("~", ";"),
      ),
    ],
    ["a line that names the delimiter", new TextEncoder().encode(`sep=;\r\n${text}`)],
    ["old line breaks", new TextEncoder().encode(text.replaceAll("\r\n", "\r"))],
  ])("reads %s", async (_name, bytes) => {
    const workspace = await newWorkspace();
    expect(await imported(workspace, bytes)).toMatchObject({ total_rows: 2, imported: 2, failed: 0 });
    expect(await contacts(workspace)).toMatchObject([
      { name: "Jörg Müller", tags: ["a", "b"] },
      { name: 'Zoë; "Z"', tags: ["c"] },
    ]);
  });

  it("reads the euro sign of Windows-1252", async () => {
    const workspace = await newWorkspace();
    await imported(
      workspace,
      Uint8Array.from("phone,name\n+4915112345678,~", (c) => (c === "~" ? 0x80 : c.charCodeAt(0))),
    );
    expect(await contacts(workspace)).toMatchObject([{ name: "€" }]);
  });

  it("takes header names in any case, quotes with line breaks in them, and skips rows without data", async () => {
    const workspace = await newWorkspace();
    const answer = await imported(
      workspace,
      '\nNAME,Notes,"Phone Number", LABELS \n"Ann\nB.",x,+44 7700 900-001,"a, b;a"\n\n,,,\nNo,x,12,\n',
    );
    expect(answer).toMatchObject({ total_rows: 2, imported: 1, failed: 1 });
    expect(answer.results[1]).toEqual({
      row_number: 2,
      phone_number: "12",
      status: "failed",
      reason: "Invalid phone number format",
    });
    expect(await contacts(workspace)).toMatchObject([
      { phone_number: "+447700900001", name: "Ann\nB.", tags: ["a", "b"] },
    ]);
  });

  it("reads national numbers with the workspace's country, else as international", async () => {
    const american = await newWorkspace({ settings: { default_country: "US" } });
    const answer = await imported(
      american,
      "phone\n(202) 555-0101\n+1 202.555.0101\n447700900001\n1234567\n+123456\n+1234567890123456\nabc",
    );
    const [good, bad] = [
      ["imported", "updated", "imported", "imported"],
      ["failed", "failed", "failed"],
    ];
    expect(answer.results.map((row) => row.status)).toEqual([...good, ...bad]);
    const numbers = (await contacts(american)).map((contact) => contact.phone_number);
    expect(numbers).toEqual(["+12025550101", "+447700900001", "+1234567"]);
    const german = await newWorkspace({ settings: { default_country: "DE" } });
    await imported(german, "phone\n0151 12345678\n0049 151 12345679");
    expect((await contacts(german)).map((contact) => contact.phone_number)).toEqual([
      "+4915112345678",
      "+4915112345679",
    ]);
    const nowhere = await newWorkspace();
    await imported(nowhere, "phone\n015112345678");
    expect(await contacts(nowhere)).toMatchObject([{ phone_number: "+015112345678" }]);
  });

  it("knows the two spellings of a Brazilian number as one person", async () => {
    const workspace = await newWorkspace();
    const answer = await imported(workspace, "phone,name\n+5511987654321,Ana\n+551187654321,Ana Maria");
    expect(answer).toMatchObject({ imported: 1, updated: 1 });
    expect(await imported(workspace, "phone\n+551187654321")).toMatchObject({ imported: 0, updated: 1 });
    expect(await contacts(workspace)).toMatchObject([{ phone_number: "+5511987654321", name: "Ana Maria" }]);
  });

  it("keeps who opted out out, lets in who never said, and brings a deleted contact back", async () => {
    const workspace = await newWorkspace();
    const create = async (phone: string, opted: boolean) =>
      body<{ id: string }>(
        await workspace.call("POST", "/api/contacts", { phone_number: phone, opted_in: opted }),
        201,
      );
    await create("+12025550101", false);
    const gone = await create("+12025550102", true);
    await workspace.call("DELETE", `/api/contacts/${gone.id}`);
    await create("+12025550103", true);
    await env.SHARD_0.prepare(
      "UPDATE contacts SET opted_in = 0, opted_out_at = NULL, consent_proof = NULL WHERE workspace_id = ?1 AND phone_number = ?2",
    )
      .bind(workspace.workspaceId, "+12025550103")
      .run();
    const answer = await imported(workspace, "phone,name\n+12025550101,A\n+12025550102,B\n+12025550103,C");
    expect(answer.results.map((row) => row.status)).toEqual(["updated", "imported", "updated"]);
    expect(await contacts(workspace)).toMatchObject([
      { name: "A", opted_in: false, consent: { source: "api" } },
      { name: "B", opted_in: true },
      { name: "C", opted_in: true, consent: { source: "import" } },
    ]);
  });

  it("says which file it cannot take, and leaves nothing of it", async () => {
    const workspace = await newWorkspace();
    const refused = async (content: string | Uint8Array, name: string, status: number) => {
      const answer = await body<{ detail: string | { loc: string[]; msg: string }[] }>(
        await upload(workspace, content, name),
        status,
      );
      return typeof answer.detail === "string" ? answer.detail : answer.detail[0]?.msg;
    };
    expect(await refused("telephone,name\n+12025550101,A", "a.csv", 422)).toBe("The file has no column named phone");
    expect(await refused("", "a.csv", 422)).toBe("The file is empty");
    const xls = Uint8Array.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0, 0]);
    expect(await refused(xls, "a.xls", 422)).toContain("save as .xlsx");
    expect(await refused(`phone\n"${"x".repeat(70_000)}`, "a.csv", 422)).toContain("quote");
    expect(await refused(new Uint8Array(25 * 1024 * 1024 + 1).fill(65), "a.csv", 413)).toContain("25 MB");
    expect(await refused(`phone\n${"1\n".repeat(100_001)}`, "a.csv", 422)).toContain("100000 rows");
    const empty = await workspace.call("POST", "/api/contacts/import", new FormData());
    expect(empty.status).toBeGreaterThanOrEqual(400);
    expect(empty.status).toBeLessThan(500);
    expect((await workspace.call("POST", "/api/contacts/import", { file: "x" })).status).toBe(415);
    expect(await objectsOf(workspace)).toEqual([]);
    const rows = await env.SHARD_0.prepare("SELECT count(*) AS n FROM imports WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .first();
    expect(rows).toEqual({ n: 0 });
  });
});

const SHEET = "xl/worksheets/sheet1.xml";

function workbook(sheet: string, shared: string[] = [], extra: Record<string, Uint8Array> = {}): Uint8Array {
  return zipSync({
    [SHEET]: strToU8(`<?xml version="1.0"?><worksheet><sheetData>${sheet}</sheetData></worksheet>`),
    "xl/workbook.xml": strToU8(
      '<workbook xmlns:r="urn:r"><sheets><sheet name="People" sheetId="1" r:id="rId7"/><sheet name="x" sheetId="2" r:id="rId8"/></sheets></workbook>',
    ),
    "xl/_rels/workbook.xml.rels": strToU8(
      '<Relationships><Relationship Id="rId8" Target="worksheets/sheet2.xml"/><Relationship Id="rId7" Target="worksheets/sheet1.xml"/></Relationships>',
    ),
    "xl/sharedStrings.xml": strToU8(`<sst>${shared.map((text) => `<si>${text}</si>`).join("")}</sst>`),
    ...extra,
  });
}

describe("an import of an Excel file", () => {
  it("reads shared and inline texts, numbers, and what formulas gave when the file was saved", async () => {
    const workspace = await newWorkspace();
    const file = workbook(
      `<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c><c r="D1" t="inlineStr"><is><t>Tags</t></is></c></row>
       <row r="2"><c r="A2"><v>4.47700900001E11</v></c><c r="C2" t="s"><v>2</v></c><c r="D2" t="inlineStr"><is><t>a;b</t></is></c></row>
       <row r="3"><c r="A3" t="str"><f>"+"&amp;447700900002</f><v>+447700900002</v></c><c r="C3" t="str"><f>HYPERLINK("http://x")</f><v>Bob &amp; Co</v></c></row>
       <row r="5"><c r="A5" t="e"><v>#REF!</v></c><c r="C5" t="s"><v>1</v></c></row>`,
      ["<t>Phone</t>", "<t>NAME</t>", "<r><t>Ann </t></r><r><t>Lee</t></r><rPh><t>x</t></rPh>"],
    );
    const answer = await imported(workspace, file, "people.xlsx");
    expect(answer).toMatchObject({ total_rows: 3, imported: 2, failed: 1 });
    expect(await contacts(workspace)).toMatchObject([
      { phone_number: "+447700900001", name: "Ann Lee", tags: ["a", "b"] },
      { phone_number: "+447700900002", name: "Bob & Co", tags: [] },
    ]);
  });

  it("refuses one that unpacks to too much, is damaged, or has no sheet", async () => {
    const workspace = await newWorkspace();
    const bomb = workbook("", [`<t>${"a".repeat(13_000_000)}</t>`]);
    expect(bomb.length).toBeLessThan(100_000);
    expect((await upload(workspace, bomb, "a.xlsx")).status).toBe(413);
    const wide = workbook("", [], { [SHEET]: new Uint8Array(129 * 1024 * 1024).fill(32) });
    expect((await upload(workspace, wide, "a.xlsx")).status).toBe(413);
    expect((await upload(workspace, workbook("<row><c></row>"), "a.xlsx")).status).toBe(422);
    expect((await upload(workspace, zipSync({ "a.txt": strToU8("x") }), "a.xlsx")).status).toBe(422);
    expect(await objectsOf(workspace)).toEqual([]);
  }, 60_000);
});

describe("a large import", () => {
  const rows = 5001;
  const file = `phone,name\n${Array.from({ length: rows }, (_, n) => (n % 1000 === 7 ? `=bad${n},"x, y"` : `${number(n)},P${n}`)).join("\n")}`;

  it("is taken with 202, applied by a job, and its refused rows can be downloaded", async () => {
    const workspace = await newWorkspace();
    const accepted = await body<Result>(await upload(workspace, file), 202);
    expect(accepted).toMatchObject({ total_rows: rows, results: [] });
    const path = `/api/contacts/imports/${accepted.import_id}`;
    const end = await vi.waitFor(
      async () => {
        const now = await body(await workspace.call("GET", path), 200);
        expect(now.status).toBe("completed");
        return now;
      },
      { timeout: 20_000, interval: 100 },
    );
    const bad = Math.ceil((rows - 7) / 1000);
    expect(end).toMatchObject({
      total_rows: rows,
      processed_rows: rows,
      imported: rows - bad,
      updated: 0,
      failed: bad,
      file_name: "contacts.csv",
    });
    expect(await count(workspace)).toBe(rows - bad);
    const rejected = await (await workspace.call("GET", `${path}/rejected`)).text();
    const lines = rejected.split("\r\n");
    expect(lines).toHaveLength(bad + 2);
    expect(lines[1]).toBe('8,\'=bad7,"x, y",,Invalid phone number format');
    const stranger = await newWorkspace();
    expect((await stranger.call("POST", `/api/contacts/import?workspace_id=${workspace.workspaceId}`)).status).toBe(
      404,
    );
    expect((await stranger.call("GET", path)).status).toBe(404);
    expect((await stranger.call("GET", `${path}/rejected`)).status).toBe(404);
    const agent = await memberWithRole(workspace, "AGENT");
    expect((await agent.call("GET", path)).status).toBe(403);
  }, 60_000);

  /** Takes the file in as a request would, but keeps the job: tests decide when it runs. */
  async function accepted(workspace: TestWorkspace) {
    const queues = heldQueues();
    const rt = testRuntime();
    const runtime = { ...rt, env: queues.env };
    const membership = { workspaceId: workspace.workspaceId, shard: 0, plan: "enterprise", status: "active" } as const;
    const form = new FormData();
    form.append("file", new File([file], "contacts.csv"));
    const request = new Request("https://switchboard.test", { method: "POST", body: form });
    const { import: row } = await receiveImport(
      {
        rt: runtime,
        caller: { kind: "key", memberships: [{ ...membership, role: null }] },
        workspaceId: workspace.workspaceId,
        membership: { ...membership, role: null },
        db: shard(rt, 0),
      },
      { body: request.body, contentType: request.headers.get("content-type") ?? "" },
    );
    return { ...queues, id: row.id, jobs: queues.held.get("BULK") ?? [] };
  }

  /** A shard that loses some transactions before they happen, and of some only the answer. */
  function failing(database: D1Database): D1Database {
    let calls = 0;
    return new Proxy(database, {
      get(target, name) {
        if (name !== "withSession") return Reflect.get(target, name);
        return (start: string) => {
          const session = target.withSession(start);
          return {
            prepare: (sql: string) => session.prepare(sql),
            getBookmark: () => session.getBookmark(),
            batch: async (statements: D1PreparedStatement[]) => {
              calls += 1;
              if (calls % 7 === 4) throw new Error("Network connection lost.");
              const results = await session.batch(statements);
              if (calls % 7 === 6) throw new Error("Network connection lost.");
              return results;
            },
          };
        };
      },
    });
  }

  it("survives lost transactions, lost answers and two runs at once: nothing is lost, nothing done twice", async () => {
    const workspace = await newWorkspace();
    const { env: held, jobs, id } = await accepted(workspace);
    const published: { key: string; events: Record<string, unknown>[] }[] = [];
    const hub = {
      publish: async (write: { key: string; events: Record<string, unknown>[] }) => {
        published.push(write);
        return { seq: published.length, viewed: [] };
      },
    };
    const broken = {
      ...held,
      SHARD_0: failing(env.SHARD_0),
      WORKSPACE_HUB: { getByName: () => hub },
    } as unknown as Env;
    let failures = 0;
    for (let run = 0; jobs.length > 0 && run < 50; run += 1) {
      const { body: job } = jobs.shift() ?? { body: null };
      const settled = await Promise.all([
        deliver("bulk", [job], { env: broken }),
        deliver("bulk", [job], { env: broken }),
      ]);
      if (settled.every((result) => result.outcome === "ok" && result.ackAll)) continue;
      failures += 1;
      jobs.push({ body: job, delaySeconds: 0 });
    }
    expect(failures).toBeGreaterThan(0);
    const end = await body(await workspace.call("GET", `/api/contacts/imports/${id}`), 200);
    expect(end).toMatchObject({ status: "completed", processed_rows: rows, imported: rows - 5, updated: 0, failed: 5 });
    expect(await count(workspace)).toBe(rows - 5);
    const page = await body(await workspace.call("GET", "/api/contacts?limit=1"), 200);
    expect(page.total).toBe(rows - 5);
    expect(published.at(-1)).toMatchObject({
      events: [{ type: "import.progress", import_id: id, status: "completed", total_rows: rows, processed_rows: rows }],
    });
  }, 60_000);

  it("goes on by itself when its job was lost, and is removed after 30 days", async () => {
    const workspace = await newWorkspace();
    const { env: held, jobs, id } = await accepted(workspace);
    jobs.length = 0;
    const rt = { ...testRuntime(), env: held };
    await runDueImports(rt, 0, Date.now());
    expect(jobs).toHaveLength(0);
    await runDueImports(rt, 0, Date.now() + 6 * 60_000);
    expect(jobs).toMatchObject([{ body: { kind: "contact.import", id } }]);
    while (jobs.length > 0) await deliver("bulk", [jobs.shift()?.body], { env: held });
    expect(await count(workspace)).toBe(rows - 5);
    expect(await objectsOf(workspace)).toHaveLength(2);
    await runDueImports(rt, 0, Date.now() + 31 * 86_400_000);
    expect(await objectsOf(workspace)).toEqual([]);
    expect((await workspace.call("GET", `/api/contacts/imports/${id}`)).status).toBe(404);
    expect(await count(workspace)).toBe(rows - 5);
  }, 60_000);
});
