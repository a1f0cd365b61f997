import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { api } from "../src/api";
import { purgeMedia } from "../src/media/service-purge";
import { Db } from "../src/platform/d1";
import { FORM_TYPE, failingOn, fileOf, formBytes } from "./support/files";
import { newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";
import { fireCron } from "./support/pipeline";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

async function upload(workspace: TestWorkspace, content: number): Promise<string> {
  const file = { name: "a.jpg", type: "image/jpeg", bytes: fileOf("jpeg", content) };
  const response = await workspace.call("POST", "/api/media", formBytes([{ name: "file", file }]), FORM_TYPE);
  expect(response.status).toBe(201);
  return (await response.json<{ id: string }>()).id;
}

async function remove(workspace: TestWorkspace, id: string): Promise<void> {
  expect((await workspace.call("DELETE", `/api/media/${id}`)).status).toBe(204);
}

/** The nightly job as it runs `at` (ms), here without the other jobs of the night. */
function night(at: number): Promise<void> {
  return purgeMedia(testRuntime({ clock: () => at }), 0, at);
}

async function objects(): Promise<Set<string>> {
  const { objects: found } = await env.MEDIA.list({ prefix: "media/" });
  return new Set(found.map((object) => object.key.slice("media/".length)));
}

/** Status and bytes of a file at its signed address. */
async function served(workspace: TestWorkspace, id: string): Promise<Uint8Array | number> {
  const answer = await workspace.call("GET", `/api/media/${id}/url`);
  if (answer.status !== 200) return answer.status;
  const { url } = await answer.json<{ url: string }>();
  const file = await api.fetch(new Request(url), env);
  return file.status === 200 ? new Uint8Array(await file.arrayBuffer()) : file.status;
}

async function objectRows(workspace: TestWorkspace) {
  const { results } = await env.SHARD_0.prepare(
    "SELECT id, state FROM media_objects WHERE workspace_id = ?1 ORDER BY id",
  )
    .bind(workspace.workspaceId)
    .all<{ id: string; state: string }>();
  return results;
}

describe("what is deleted", () => {
  it("goes in the second night, for good", async () => {
    const workspace = await newWorkspace();
    const before = await objects();
    const id = await upload(workspace, 1);
    const [key] = [...(await objects())].filter((one) => !before.has(one));
    await remove(workspace, id);
    const now = Date.now();
    await fireCron("0 3 * * *", now);
    expect(await objects()).toContain(key);
    await fireCron("0 3 * * *", now + 60_000);
    expect(await objects()).toContain(key);
    await fireCron("0 3 * * *", now + DAY);
    expect(await objects()).not.toContain(key);
    expect(await objectRows(workspace)).toEqual([]);
  });

  it("stays as long as another file is the same", async () => {
    const workspace = await newWorkspace();
    const [first, second] = [await upload(workspace, 2), await upload(workspace, 2)];
    await remove(workspace, first);
    const now = Date.now();
    for (const at of [now, now + DAY, now + 2 * DAY]) await night(at);
    expect(await served(workspace, second)).toEqual(fileOf("jpeg", 2));
    await remove(workspace, second);
    for (const at of [now + 3 * DAY, now + 4 * DAY]) await night(at);
    expect(await objectRows(workspace)).toEqual([]);
  });

  it("is saved by the same file before the night, and stored anew after it", async () => {
    const workspace = await newWorkspace();
    const now = Date.now();
    await remove(workspace, await upload(workspace, 3));
    const saved = await upload(workspace, 3);
    await night(now);
    await night(now + DAY);
    expect(await served(workspace, saved)).toEqual(fileOf("jpeg", 3));

    await remove(workspace, saved);
    await night(now + 2 * DAY);
    // Doomed: nobody finds it any more.
    const anew = await upload(workspace, 3);
    expect((await objectRows(workspace)).map((row) => row.state).sort()).toEqual(["doomed", "ready"]);
    await night(now + 3 * DAY);
    expect(await served(workspace, anew)).toEqual(fileOf("jpeg", 3));
    expect((await objectRows(workspace)).map((row) => row.state)).toEqual(["ready"]);
  });

  it("loses nothing of what is uploaded at the very moment, whatever the order", async () => {
    const workspace = await newWorkspace();
    const now = Date.now();
    let live: { id: string; content: number }[] = [];
    let nights = 0;
    for (let round = 0; round < 12; round += 1) {
      const content = 100 + (round % 3);
      const doomed = live.splice(0, Math.ceil(live.length / 2));
      const steps: (() => Promise<void>)[] = [
        ...doomed.map((file) => () => remove(workspace, file.id)),
        ...Array.from({ length: 3 }, (_, n) => async () => {
          live.push({ id: await upload(workspace, content + (n === 2 ? 1 : 0)), content: content + (n === 2 ? 1 : 0) });
        }),
        ...Array.from({ length: 3 }, () => () => {
          nights += 1;
          return night(now + nights * DAY);
        }),
      ];
      // Another order each round, all of it at once.
      const order = steps.map((step, at) => ({ step, key: (at * 7 + round * 5) % steps.length }));
      await Promise.all(order.sort((a, b) => a.key - b.key).map(({ step }) => step()));
    }
    expect(live.length).toBeGreaterThan(3);
    for (const { id, content } of live) expect(await served(workspace, id)).toEqual(fileOf("jpeg", content));
    for (const { id } of live) await remove(workspace, id);
    live = [];
    for (let last = 1; last <= 3; last += 1) await night(now + (nights + last) * DAY);
    expect(await objectRows(workspace)).toEqual([]);
  }, 60_000);

  it("costs the night only what was deleted", async () => {
    const workspace = await newWorkspace();
    await env.SHARD_0.batch([
      env.SHARD_0.prepare(
        `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 20000)
         INSERT INTO media_objects (workspace_id, id, state, sha256, size, created_at) SELECT ?1, 'seed' || i, 'ready', 'seed' || i, 1, 0 FROM n`,
      ).bind(workspace.workspaceId),
      env.SHARD_0.prepare(
        `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 20000)
         INSERT INTO media (workspace_id, id, type, source, status, object_id, mime_type, created_at, updated_at)
         SELECT ?1, 'seed' || i, 'image', 'upload', 'ready', 'seed' || i, 'image/png', 0, 0 FROM n`,
      ).bind(workspace.workspaceId),
    ]);
    const { doomObjects, selectDoomed } = await import("../src/media/store-objects");
    await remove(workspace, await upload(workspace, 6));
    const db = new Db(env.SHARD_0);
    expect(await doomObjects(db, Date.now(), Date.now(), 1000)).toBe(1);
    expect(await selectDoomed(db, Date.now() + DAY, 1000)).toHaveLength(1);
    expect(db.cost.rowsRead).toBeLessThan(40);
    await night(Date.now() + DAY);
  });
});

describe("what was never finished", () => {
  it("because the database failed after the bucket had it, is found by the night", async () => {
    const workspace = await newWorkspace();
    const before = await objects();
    const body = formBytes([
      { name: "file", file: { name: "a.jpg", type: "image/jpeg", bytes: fileOf("jpeg", 7) } },
    ]) as Uint8Array<ArrayBuffer>;
    const headers = { Authorization: `Bearer ${workspace.token}`, ...FORM_TYPE };
    const request = new Request("http://switchboard.test/api/media", { method: "POST", headers, body });
    const broken = { ...env, SHARD_0: failingOn(env.SHARD_0, "INSERT INTO media (") } as unknown as Env;
    expect((await api.fetch(request, broken)).status).toBe(500);
    const left = [...(await objects())].filter((one) => !before.has(one));
    expect(left).toHaveLength(1);
    const now = Date.now();
    // Not before an upload of the slowest kind would have ended.
    for (const at of [now, now + 20 * HOUR]) await night(at);
    expect(await objects()).toContain(left[0]);
    for (const at of [now + 25 * HOUR, now + 26 * HOUR]) await night(at);
    expect(await objects()).not.toContain(left[0]);
    expect(await objectRows(workspace)).toEqual([]);
    // The same file can be stored meanwhile and after.
    expect(await served(workspace, await upload(workspace, 7))).toEqual(fileOf("jpeg", 7));
  });

  it("because its parts stopped coming, is given up after a day", async () => {
    const workspace = await newWorkspace();
    const started = await workspace.call("POST", "/api/media/uploads", { file_name: "a.pdf", file_size: 100 });
    const { id } = await started.json<{ id: string }>();
    const put = () => workspace.call("PUT", `/api/media/uploads/${id}/parts/1`, fileOf("pdf"), {});
    expect((await put()).status).toBe(200);
    const now = Date.now();
    for (const at of [now + 25 * HOUR, now + 26 * HOUR]) await night(at);
    // R2 has forgotten it too.
    expect((await put()).status).toBe(409);
    expect((await workspace.call("POST", `/api/media/uploads/${id}/complete`)).status).toBe(409);
    await night(now + 6 * DAY);
    expect((await put()).status).toBe(404);
    expect(await objectRows(workspace)).toEqual([]);
  });
});

it("forgets the ids that providers have forgotten, and keeps the others", async () => {
  const workspace = await newWorkspace();
  const now = Date.now();
  for (const [number, expires] of [
    ["old", now - 1],
    ["new", now + 1],
  ] as const) {
    await env.SHARD_0.prepare(
      "INSERT INTO media_provider_ids (workspace_id, phone_number_id, sha256, mime_type, provider_media_id, expires_at) VALUES (?1, ?2, 'x', 'image/png', '1', ?3)",
    )
      .bind(workspace.workspaceId, number, expires)
      .run();
  }
  await night(now);
  const { results } = await env.SHARD_0.prepare(
    "SELECT phone_number_id AS n FROM media_provider_ids WHERE workspace_id = ?1",
  )
    .bind(workspace.workspaceId)
    .all();
  expect(results).toEqual([{ n: "new" }]);
});
