import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { api } from "../src/api";
import { PART_BYTES } from "../src/media/object-writer";
import { FORM_TYPE, failingOn, fileOf, formBytes, hashOf, largeForm, largeHash, watchBucket } from "./support/files";
import { newWorkspace, type TestWorkspace } from "./support/identity";

const MB = 1024 * 1024;

const VIDEO = { head: fileOf("mp4"), name: "film.mp4", type: "video/mp4" };

/** A POST to the Worker with a bucket of its own. */
function post(workspace: TestWorkspace, body: ReadableStream<Uint8Array>, bucket: R2Bucket, headers = {}) {
  const request = new Request("http://switchboard.test/api/media", {
    method: "POST",
    headers: { Authorization: `Bearer ${workspace.token}`, ...FORM_TYPE, ...headers },
    body,
  });
  return api.fetch(request, { ...env, MEDIA: bucket } as Env);
}

async function objectCount(): Promise<number> {
  return (await env.MEDIA.list({ prefix: "media/" })).objects.length;
}

async function rowCount(workspace: TestWorkspace): Promise<number> {
  const row = await env.SHARD_0.prepare(
    `SELECT (SELECT count(*) FROM media WHERE workspace_id = ?1) + (SELECT count(*) FROM media_objects WHERE workspace_id = ?1)
       + (SELECT count(*) FROM media_uploads WHERE workspace_id = ?1) AS n`,
  )
    .bind(workspace.workspaceId)
    .first<{ n: number }>();
  return row?.n ?? -1;
}

describe("a file of 100 MB", () => {
  it("passes through with one part of it in memory, and comes out as it went in", async () => {
    const workspace = await newWorkspace();
    const size = 100 * MB;
    const watch = watchBucket(env.MEDIA);
    const form = largeForm(size, VIDEO, [{ name: "workspace_id", value: workspace.workspaceId }]);
    // What was read of the body and is not in the bucket yet: what stands in memory.
    let most = 0;
    let uploaded = 0;
    watch.onPart = (bytes) => {
      most = Math.max(most, form.produced() - uploaded);
      uploaded += bytes;
    };
    const response = await post(workspace, form.body, watch.bucket);
    expect(response.status).toBe(201);
    const media = await response.json<{ id: string; file_size: number; sha256: string; type: string }>();
    expect(media).toMatchObject({ type: "video", file_size: size });
    expect(media.sha256).toBe(await largeHash(size, VIDEO.head));
    expect(watch.sizes.slice(0, -1).every((bytes) => bytes === PART_BYTES)).toBe(true);
    expect(watch.sizes.reduce((sum, bytes) => sum + bytes, 0)).toBe(size);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(PART_BYTES + 256 * 1024);

    const { url } = await (await workspace.call("GET", `/api/media/${media.id}/url`)).json<{ url: string }>();
    const served = await api.fetch(new Request(url), env);
    const digest = new crypto.DigestStream("SHA-256");
    await served.body?.pipeTo(digest);
    const hash = [...new Uint8Array(await digest.digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    expect(hash).toBe(media.sha256);
    const tail = await api.fetch(new Request(url, { headers: { Range: "bytes=-5" } }), env);
    expect(tail.headers.get("Content-Range")).toBe(`bytes ${size - 5}-${size - 1}/${size}`);
    expect((await tail.arrayBuffer()).byteLength).toBe(5);
  }, 60_000);

  it("is refused at the first byte too many, with nothing left of it", async () => {
    const workspace = await newWorkspace();
    const [objects, watch] = [await objectCount(), watchBucket(env.MEDIA)];
    const form = largeForm(100 * MB + 1, VIDEO, []);
    const response = await post(workspace, form.body, watch.bucket);
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ code: "too_large", detail: expect.stringContaining("104857600") });
    expect(watch.aborted()).toBe(1);
    expect(await objectCount()).toBe(objects);
    expect(await rowCount(workspace)).toBe(0);
  }, 60_000);

  it("is not even begun when the caller says that it is larger", async () => {
    const workspace = await newWorkspace();
    const watch = watchBucket(env.MEDIA);
    const form = largeForm(200 * MB, VIDEO, []);
    const response = await post(workspace, form.body, watch.bucket, { "Content-Length": String(200 * MB) });
    expect(response.status).toBe(413);
    expect(form.produced()).toBe(0);
    expect(watch.sizes).toEqual([]);
  });
});

describe("each type has its limit", () => {
  const limits: [keyof typeof TYPES, number][] = [
    ["image", 16 * MB],
    ["audio", 16 * MB],
    ["document", 100 * MB],
  ];
  const TYPES = {
    image: { head: fileOf("png"), name: "a.png", type: "image/png" },
    audio: { head: fileOf("ogg"), name: "a.ogg", type: "audio/ogg" },
    document: { head: fileOf("pdf"), name: "a.pdf", type: "application/pdf" },
  };

  it.each(limits)(
    "%s: the last byte allowed, and one more",
    async (type, limit) => {
      const workspace = await newWorkspace();
      const [objects, watch] = [await objectCount(), watchBucket(env.MEDIA)];
      const over = largeForm(limit + 1, TYPES[type], []);
      expect((await post(workspace, over.body, watch.bucket)).status).toBe(413);
      // Read no further than to where the limit was.
      expect(over.produced()).toBeLessThanOrEqual(limit + 256 * 1024);
      expect(await objectCount()).toBe(objects);
      expect(await rowCount(workspace)).toBe(0);
      if (type === "document") return;
      const response = await post(workspace, largeForm(limit, TYPES[type], []).body, env.MEDIA);
      expect(response.status).toBe(201);
      expect(await response.json()).toMatchObject({ type, file_size: limit });
    },
    60_000,
  );

  it("a body whose other parts never end is cut off", async () => {
    const workspace = await newWorkspace();
    const form = largeForm(150 * MB, { ...VIDEO, field: "other" }, []);
    expect((await post(workspace, form.body, env.MEDIA)).status).toBe(413);
    expect(form.produced()).toBeGreaterThan(99 * MB);
    expect(form.produced()).toBeLessThan(101 * MB);
  });
});

describe("an upload that breaks off", () => {
  it("leaves nothing behind", async () => {
    const workspace = await newWorkspace();
    for (const breakAt of [0, MB, 20 * MB]) {
      const [objects, watch] = [await objectCount(), watchBucket(env.MEDIA)];
      const form = largeForm(50 * MB, VIDEO, [], { breakAt });
      const response = await post(workspace, form.body, watch.bucket);
      expect(response.status, `after ${breakAt}`).toBe(400);
      expect(watch.aborted()).toBe(breakAt > PART_BYTES ? 1 : 0);
      expect(await objectCount()).toBe(objects);
      expect(await rowCount(workspace)).toBe(0);
    }
  });

  it("because the bucket fails is told so, and leaves nothing that the night does not find", async () => {
    const workspace = await newWorkspace();
    const watch = watchBucket(env.MEDIA);
    let parts = 0;
    watch.onPart = () => {
      parts += 1;
      if (parts === 2) throw new Error("The bucket is not there");
    };
    const response = await post(workspace, largeForm(30 * MB, VIDEO, []).body, watch.bucket);
    expect(response.status).toBe(500);
    expect(watch.aborted()).toBe(1);
    expect(await rowCount(workspace)).toBe(0);
  });
});

describe("an upload in parts", () => {
  const PDF = fileOf("pdf");

  async function start(workspace: TestWorkspace, body: Record<string, unknown>) {
    const response = await workspace.call("POST", "/api/media/uploads", {
      workspace_id: workspace.workspaceId,
      ...body,
    });
    return { status: response.status, body: await response.json<Record<string, never>>() };
  }

  function part(workspace: TestWorkspace, id: string, number: number | string, bytes: Uint8Array) {
    return workspace.call("PUT", `/api/media/uploads/${id}/parts/${number}`, bytes, {
      "Content-Type": "application/octet-stream",
    });
  }

  /** Bytes `from` to `to` of a file that begins like a PDF. */
  function slice(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array(to - from);
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = from + at < PDF.length ? (PDF[from + at] ?? 0) : 7;
    return bytes;
  }

  it("makes the same file of parts that came in any order, once however often it is completed", async () => {
    const workspace = await newWorkspace();
    const size = 2 * PART_BYTES + 1234;
    const { status, body } = await start(workspace, {
      file_name: "a.pdf",
      mime_type: "application/pdf",
      file_size: size,
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({ part_size: PART_BYTES, part_count: 3, received_parts: [], file_size: size });
    const id = String(body.id);
    const early = await workspace.call("POST", `/api/media/uploads/${id}/complete`);
    expect(early.status).toBe(409);
    expect(await early.json()).toMatchObject({ detail: expect.stringContaining("1, 2, 3") });
    for (const number of [3, 1, 2, 1]) {
      const bytes = slice((number - 1) * PART_BYTES, Math.min(size, number * PART_BYTES));
      expect((await part(workspace, id, number, bytes)).status).toBe(200);
    }
    const made = await workspace.call("POST", `/api/media/uploads/${id}/complete`);
    expect(made.status).toBe(201);
    const media = await made.json<{ id: string; sha256: string }>();
    expect(media).toMatchObject({
      id,
      type: "document",
      file_size: size,
      file_name: "a.pdf",
      uploaded_by: workspace.userId,
    });
    expect(media.sha256).toBe(await hashOf(slice(0, size)));
    const again = await workspace.call("POST", `/api/media/uploads/${id}/complete`);
    expect(await again.json()).toEqual(media);
    const list = await (await workspace.call("GET", "/api/media")).json<{ total: number; data: unknown[] }>();
    expect([list.total, list.data.length]).toEqual([1, 1]);
    expect((await workspace.call("DELETE", `/api/media/uploads/${id}`)).status).toBe(409);
    const { url } = await (await workspace.call("GET", `/api/media/${id}/url`)).json<{ url: string }>();
    const served = await api.fetch(new Request(url), env);
    expect(await hashOf(new Uint8Array(await served.arrayBuffer()))).toBe(media.sha256);
  });

  it("goes on after a crash between joining the parts and storing the file", async () => {
    const workspace = await newWorkspace();
    const { body } = await start(workspace, { file_name: "a.pdf", file_size: PDF.length });
    const id = String(body.id);
    await part(workspace, id, 1, PDF);
    const broken = { ...env, SHARD_0: failingOn(env.SHARD_0, "INSERT INTO media (") } as unknown as Env;
    const request = () =>
      new Request(`http://switchboard.test/api/media/uploads/${id}/complete`, {
        method: "POST",
        headers: { Authorization: `Bearer ${workspace.token}` },
      });
    expect((await api.fetch(request(), broken)).status).toBe(500);
    const made = await api.fetch(request(), env);
    expect(made.status).toBe(201);
    expect(await made.json()).toMatchObject({ id, file_size: PDF.length });
  });

  it("is stored once with what was uploaded whole", async () => {
    const workspace = await newWorkspace();
    const before = await objectCount();
    const whole = formBytes([{ name: "file", file: { name: "a.pdf", type: "application/pdf", bytes: PDF } }]);
    expect((await workspace.call("POST", "/api/media", whole, FORM_TYPE)).status).toBe(201);
    const { body } = await start(workspace, { file_name: "b.pdf", file_size: PDF.length });
    await part(workspace, String(body.id), 1, PDF);
    const made = await workspace.call("POST", `/api/media/uploads/${String(body.id)}/complete`);
    expect(made.status).toBe(201);
    expect(await made.json()).toMatchObject({ file_name: "b.pdf", sha256: await hashOf(PDF) });
    expect(await objectCount()).toBe(before + 1);
  });

  it("is refused before a byte is sent when its type or size is", async () => {
    const workspace = await newWorkspace();
    expect((await start(workspace, { mime_type: "application/zip", file_size: 10 })).status).toBe(422);
    expect((await start(workspace, { file_name: "a.png", file_size: 16 * MB + 1 })).status).toBe(413);
    expect((await start(workspace, { file_size: 100 * MB + 1 })).status).toBe(413);
    expect((await start(workspace, { file_name: "a.png", file_size: 0 })).status).toBe(422);
    expect((await start(workspace, { file_name: "a.png", file_size: 16 * MB })).status).toBe(201);
  });

  it("takes only parts of the right number and size", async () => {
    const workspace = await newWorkspace();
    const { body } = await start(workspace, { file_name: "a.pdf", file_size: PART_BYTES + 10 });
    const id = String(body.id);
    for (const [number, size] of [
      [1, PART_BYTES - 1],
      [1, PART_BYTES + 1],
      [1, 0],
      [2, 9],
      [2, 11],
      [3, 10],
      [0, 10],
      ["x", 10],
    ] as const) {
      expect((await part(workspace, id, number, new Uint8Array(size))).status, `${number}: ${size}`).toBe(422);
    }
    expect((await part(workspace, id, 2, new Uint8Array(10))).status).toBe(200);
  });

  it("of what is not what it was declared as leaves nothing", async () => {
    const workspace = await newWorkspace();
    const before = await objectCount();
    const files: [Record<string, unknown>, Uint8Array, number][] = [
      [{ file_name: "a.png", mime_type: "image/png" }, PDF, 422],
      [{ file_name: "a.txt", mime_type: "text/plain" }, fileOf("png"), 422],
    ];
    for (const [declared, bytes, status] of files) {
      const { body } = await start(workspace, { ...declared, file_size: bytes.length });
      await part(workspace, String(body.id), 1, bytes);
      expect((await workspace.call("POST", `/api/media/uploads/${String(body.id)}/complete`)).status).toBe(status);
      expect((await workspace.call("POST", `/api/media/uploads/${String(body.id)}/complete`)).status).toBe(404);
    }
    expect(await objectCount()).toBe(before);
    expect(await rowCount(workspace)).toBe(0);
  });

  it("can be given up, and is nobody else's", async () => {
    const [workspace, other] = [await newWorkspace(), await newWorkspace()];
    const { body } = await start(workspace, { file_name: "a.pdf", file_size: PDF.length });
    const path = `/api/media/uploads/${String(body.id)}`;
    expect((await part(other, String(body.id), 1, PDF)).status).toBe(404);
    expect((await other.call("POST", `${path}/complete`)).status).toBe(404);
    expect((await other.call("DELETE", path)).status).toBe(404);
    expect((await part(workspace, String(body.id), 1, PDF)).status).toBe(200);
    expect((await workspace.call("DELETE", path)).status).toBe(204);
    expect((await part(workspace, String(body.id), 1, PDF)).status).toBe(404);
    expect(await rowCount(workspace)).toBe(0);
  });
});
