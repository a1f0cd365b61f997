import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { pageMedia } from "../src/media/store";
import { Db } from "../src/platform/d1";
import { encodeCursor } from "../src/platform/pagination";
import { FORM_TYPE, type FormPart, fileOf, formBytes, hashOf, inPieces } from "./support/files";
import { call, memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";

interface MediaBody {
  id: string;
  workspace_id: string;
  type: string;
  original_url: string | null;
  storage_url: string;
  file_name: string | null;
  file_size: number;
  mime_type: string;
  sha256: string;
  uploaded_by: string | null;
  created_at: string;
}

type Upload = { name?: string; type?: string; bytes: Uint8Array };

function photo(n = 0): Upload {
  return { name: "photo.jpg", type: "image/jpeg", bytes: fileOf("jpeg", n) };
}

function upload(workspace: TestWorkspace, file: Upload, before: FormPart[] = [], after: FormPart[] = []) {
  const body = formBytes([...before, { name: "file", file }, ...after]);
  return workspace.call("POST", "/api/media", body, FORM_TYPE);
}

async function stored(response: Response): Promise<MediaBody> {
  const text = await response.text();
  expect(response.status, text).toBe(201);
  return JSON.parse(text);
}

async function refusal(response: Response): Promise<{ status: number; code: string; loc?: string[]; msg: string }> {
  const body = await response.json<{ code: string; detail: string | { loc: string[]; msg: string }[] }>();
  const [first] = typeof body.detail === "string" ? [] : body.detail;
  return { status: response.status, code: body.code, loc: first?.loc, msg: first?.msg ?? String(body.detail) };
}

/** Keys of all objects of the bucket that hold media. */
async function objects(): Promise<string[]> {
  return (await env.MEDIA.list({ prefix: "media/" })).objects.map((object) => object.key);
}

describe("uploading a file", () => {
  it("answers the documented fields, with the file's hash", async () => {
    const workspace = await newWorkspace();
    const file = photo();
    const media = await stored(await upload(workspace, file, [{ name: "workspace_id", value: workspace.workspaceId }]));
    expect(media).toMatchObject({
      workspace_id: workspace.workspaceId,
      type: "image",
      original_url: null,
      file_name: "photo.jpg",
      file_size: file.bytes.length,
      mime_type: "image/jpeg",
      uploaded_by: workspace.userId,
      sha256: await hashOf(file.bytes),
    });
    expect(media.storage_url).toBe(`http://switchboard.test/media/${workspace.workspaceId}/${media.id}`);
    expect(media.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });

  it("works as a browser's FormData sends it", async () => {
    const workspace = await newWorkspace();
    const form = new FormData();
    form.append("workspace_id", workspace.workspaceId);
    form.append("file", new File([fileOf("png") as Uint8Array<ArrayBuffer>], "chart.png", { type: "image/png" }));
    const media = await stored(await workspace.call("POST", "/api/media", form));
    expect(media).toMatchObject({ file_name: "chart.png", mime_type: "image/png" });
  });

  it("takes the workspace after the file too, and the caller's own where the form names none", async () => {
    const workspace = await newWorkspace();
    const after = await stored(
      await upload(workspace, photo(1), [], [{ name: "workspace_id", value: workspace.workspaceId.toUpperCase() }]),
    );
    expect(after.workspace_id).toBe(workspace.workspaceId);
    expect((await stored(await upload(workspace, photo(2)))).workspace_id).toBe(workspace.workspaceId);
    const byKey = await workspace.callWithKey(
      "POST",
      "/api/media",
      formBytes([{ name: "file", file: photo(3) }]),
      FORM_TYPE,
    );
    expect((await stored(byKey)).uploaded_by).toBeNull();
  });

  it("reads the form whatever pieces it comes in", async () => {
    const workspace = await newWorkspace();
    const bytes = new Uint8Array([...fileOf("pdf"), ...new TextEncoder().encode("\r\n------test-boundary\r\n--\r\n-")]);
    const form = formBytes([
      { name: "workspace_id", value: workspace.workspaceId },
      { name: "file", file: { name: "a.pdf", type: "application/pdf", bytes } },
      { name: "note", value: "ignored" },
    ]);
    const hash = await hashOf(bytes);
    // Pieces of every size: each boundary is cut at each of its places.
    for (const size of [1, 2, 3, 5, 7, 11, 13, 64, form.length - 3, form.length - 1]) {
      const media = await stored(await workspace.call("POST", "/api/media", inPieces(form, size), FORM_TYPE));
      expect(media.sha256, `pieces of ${size}`).toBe(hash);
    }
  });

  it("keeps names without folders and unseen characters", async () => {
    const workspace = await newWorkspace();
    const names: [string, string | null][] = [
      ["C:\\Users\\ana\\holiday photo.jpg", "holiday photo.jpg"],
      ["../../etc/passwd.jpg", "passwd.jpg"],
      ["gpj.\u202eexe.jpg", "gpj.exe.jpg"],
      ["Grüße 🎉.jpg", "Grüße 🎉.jpg"],
      [`${"x".repeat(300)}.jpg`, `${"x".repeat(251)}.jpg`],
      ['a \\"quoted\\" one.jpg', 'a "quoted" one.jpg'],
      ["a %22quoted%22 one.jpg", 'a "quoted" one.jpg'],
      ["照片; 1.jpg", "照片; 1.jpg"],
      ["..", null],
    ];
    for (const [given, kept] of names) {
      const media = await stored(await upload(workspace, { ...photo(), name: given }));
      expect(media.file_name).toBe(kept);
    }
  });

  it("stores the same file once in a workspace, as one file per upload", async () => {
    const [workspace, other] = [await newWorkspace(), await newWorkspace()];
    const before = new Set(await objects());
    const first = await stored(
      await upload(workspace, { name: "a.jpg", type: "image/jpeg", bytes: fileOf("jpeg", 77) }),
    );
    const second = await stored(
      await upload(workspace, { name: "b.jpg", type: "image/jpeg", bytes: fileOf("jpeg", 77) }),
    );
    const foreign = await stored(await upload(other, { name: "a.jpg", type: "image/jpeg", bytes: fileOf("jpeg", 77) }));
    expect(second.id).not.toBe(first.id);
    expect([first.file_name, second.file_name]).toEqual(["a.jpg", "b.jpg"]);
    expect(new Set([first.sha256, second.sha256, foreign.sha256]).size).toBe(1);
    // One object per workspace: what one tenant deletes is no business of another.
    expect((await objects()).filter((key) => !before.has(key))).toHaveLength(2);
  });

  it("stores the same file once also when it comes eight times at once", async () => {
    const workspace = await newWorkspace();
    const before = new Set(await objects());
    const answers = await Promise.all(Array.from({ length: 8 }, () => upload(workspace, photo(88))));
    const files = await Promise.all(answers.map(stored));
    expect(new Set(files.map((file) => file.id)).size).toBe(8);
    expect((await objects()).filter((key) => !before.has(key))).toHaveLength(1);
    const list = await (await workspace.call("GET", "/api/media")).json<{ total: number }>();
    expect(list.total).toBe(8);
  });
});

describe("what is taken", () => {
  const taken: [string, string, string, string, string][] = [
    ["jpeg", "a.jpg", "image/jpeg", "image", "image/jpeg"],
    ["png", "a.png", "image/png", "image", "image/png"],
    ["gif", "a.gif", "image/gif", "image", "image/gif"],
    ["bmp", "a.bmp", "image/bmp", "image", "image/bmp"],
    ["webp", "a.webp", "image/webp", "image", "image/webp"],
    ["mp4", "a.mp4", "video/mp4", "video", "video/mp4"],
    ["gpp", "a.3gp", "video/3gpp", "video", "video/3gpp"],
    ["mov", "a.mov", "video/quicktime", "video", "video/quicktime"],
    ["m4a", "a.m4a", "audio/mp4", "audio", "audio/mp4"],
    ["aac", "a.aac", "audio/aac", "audio", "audio/aac"],
    ["mp3", "a.mp3", "audio/mpeg", "audio", "audio/mpeg"],
    ["tagged", "a.mp3", "audio/mp3", "audio", "audio/mpeg"],
    ["amr", "a.amr", "audio/amr", "audio", "audio/amr"],
    ["ogg", "a.ogg", "audio/ogg; codecs=opus", "audio", "audio/ogg"],
    ["pdf", "a.pdf", "application/pdf", "document", "application/pdf"],
    ["cfb", "a.doc", "application/msword", "document", "application/msword"],
    ["cfb", "a.xls", "application/vnd.ms-excel", "document", "application/vnd.ms-excel"],
    ["cfb", "a.ppt", "application/vnd.ms-powerpoint", "document", "application/vnd.ms-powerpoint"],
    ["zip", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "document", ""],
    ["zip", "a.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "document", ""],
    ["zip", "a.pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation", "document", ""],
    ["text", "a.txt", "text/plain; charset=utf-8", "document", "text/plain"],
    // The declaration decides within a container: this is what players of each kind make.
    ["mp4", "voice.mp4", "audio/mp4", "audio", "audio/mp4"],
    ["mp4", "clip.mov", "video/quicktime", "video", "video/quicktime"],
    // Not declared: the name decides within the container, then the bytes.
    ["mp4", "voice.m4a", "application/octet-stream", "audio", "audio/mp4"],
    ["zip", "report.docx", "", "document", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
    ["jpeg", "photo", "", "image", "image/jpeg"],
    ["m4a", "recording", "", "audio", "audio/mp4"],
    ["png", "photo.jpg", "", "image", "image/png"],
    ["text", "notes.md", "application/octet-stream", "document", "text/plain"],
  ];

  it.each(taken)("%s as %s declared %s", async (kind, name, declared, type, mime) => {
    const workspace = await newWorkspace();
    const media = await stored(
      await upload(workspace, { name, type: declared === "" ? undefined : declared, bytes: fileOf(kind) }),
    );
    expect(media).toMatchObject({ type, mime_type: mime === "" ? declared : mime });
  });

  it("is text also when it begins like something else", async () => {
    const workspace = await newWorkspace();
    for (const text of ["BMW sells cars, and more of them than ever", "ID3 is a tag of songs", "PLease call", "MZ"]) {
      const bytes = new TextEncoder().encode(text);
      const media = await stored(await upload(workspace, { name: "a.txt", type: "text/plain", bytes }));
      expect(media.mime_type).toBe("text/plain");
    }
  });

  const refused: [string, string, string][] = [
    // Declared as one thing, made of another.
    ["png", "a.jpg", "image/jpeg"],
    ["text", "a.pdf", "application/pdf"],
    ["pdf", "a.txt", "text/plain"],
    ["mp4", "a.png", "image/png"],
    ["jpeg", "a.mp4", "video/mp4"],
    ["ogg", "a.mp3", "audio/mpeg"],
    ["zip", "a.doc", "application/msword"],
    ["cfb", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
    // Nothing we take.
    ["text", "a.svg", "image/svg+xml"],
    ["text", "a.html", "text/html"],
    ["zip", "a.zip", "application/zip"],
    ["text", "a.csv", "text/csv"],
    // Nobody says what it is.
    ["zip", "archive", ""],
    ["cfb", "archive", "application/octet-stream"],
  ];

  it.each(refused)("is not %s as %s declared %s", async (kind, name, declared) => {
    const workspace = await newWorkspace();
    const before = await objects();
    const answer = await upload(workspace, { name, type: declared === "" ? undefined : declared, bytes: fileOf(kind) });
    expect(await refusal(answer)).toMatchObject({ status: 422, code: "validation", loc: ["body", "file"] });
    expect(await objects()).toEqual(before);
  });

  it("is not an empty file, a program, or text that holds a NUL anywhere", async () => {
    const workspace = await newWorkspace();
    const hidden = new TextEncoder().encode(`${"text ".repeat(40_000)}\0`);
    const files: Upload[] = [
      { name: "a.txt", type: "text/plain", bytes: new Uint8Array() },
      { name: "a", bytes: new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0]) },
      { name: "a.txt", type: "text/plain", bytes: hidden },
    ];
    const before = await objects();
    for (const file of files) {
      expect(await refusal(await upload(workspace, file))).toMatchObject({ status: 422, loc: ["body", "file"] });
    }
    expect(await objects()).toEqual(before);
  });
});

describe("a form that is none", () => {
  it("is refused by what is wrong with it", async () => {
    const workspace = await newWorkspace();
    const post = (body: Uint8Array | undefined, headers: Record<string, string>) =>
      workspace.call("POST", "/api/media", body, headers);
    const whole = formBytes([{ name: "file", file: photo() }]);
    const bad = { name: "workspace_id", value: "my-workspace" };
    expect(await refusal(await post(formBytes([]), FORM_TYPE))).toMatchObject({ status: 422, loc: ["body", "file"] });
    expect(await refusal(await post(whole.slice(0, -8), FORM_TYPE))).toMatchObject({ status: 400, code: "malformed" });
    expect(await refusal(await post(whole, { "Content-Type": "multipart/form-data" }))).toMatchObject({ status: 400 });
    expect(await refusal(await post(whole, { "Content-Type": "application/json" }))).toMatchObject({ status: 415 });
    expect(await refusal(await upload(workspace, photo(), [bad]))).toMatchObject({
      status: 422,
      loc: ["body", "workspace_id"],
    });
    const twice = formBytes([
      { name: "file", file: photo(1) },
      { name: "file", file: photo(2) },
    ]);
    expect(await refusal(await post(twice, FORM_TYPE))).toMatchObject({ status: 422, loc: ["body", "file"] });
    const many = formBytes(Array.from({ length: 50 }, (_, n) => ({ name: `n${n}`, value: "x" })));
    expect(await refusal(await post(many, FORM_TYPE))).toMatchObject({ status: 400 });
  });

  it("is refused before its file is read where it names a foreign workspace first, and after it otherwise", async () => {
    const [workspace, other] = [await newWorkspace(), await newWorkspace()];
    const foreign = { name: "workspace_id", value: other.workspaceId };
    const before = await objects();
    for (const answer of [
      await upload(workspace, photo(5), [foreign]),
      await upload(workspace, photo(5), [], [foreign]),
    ]) {
      expect(await refusal(answer)).toMatchObject({ status: 404, msg: "Workspace not found" });
    }
    expect(await objects()).toEqual(before);
    expect((await call("POST", "/api/media", formBytes([{ name: "file", file: photo() }]), FORM_TYPE)).status).toBe(
      401,
    );
  });
});

describe("files of a workspace", () => {
  it("are listed newest first, by type, page by page, with totals", async () => {
    const workspace = await newWorkspace();
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.unshift((await stored(await upload(workspace, photo(n)))).id);
    const text = await stored(await upload(workspace, { name: "a.txt", type: "text/plain", bytes: fileOf("text") }));
    const list = async (query: string) =>
      (await workspace.call("GET", `/api/media?workspace_id=${workspace.workspaceId}${query}`)).json<{
        data: MediaBody[];
        total: number;
        limit: number;
        offset: number;
        next_cursor: string | null;
      }>();
    expect((await list("")).data.map((file) => file.id)).toEqual([text.id, ...ids]);
    const images = await list("&type=image&limit=2&offset=1");
    expect(images).toMatchObject({ total: 5, limit: 2, offset: 1 });
    expect(images.data.map((file) => file.id)).toEqual(ids.slice(1, 3));
    const next = await list(`&type=image&limit=2&cursor=${images.next_cursor}`);
    expect(next.data.map((file) => file.id)).toEqual(ids.slice(3, 5));
    expect(next.next_cursor).toBeNull();
    expect((await list("&type=video")).total).toBe(0);
    expect((await workspace.call("GET", "/api/media?type=sticker")).status).toBe(422);
    expect((await workspace.call("GET", "/api/media?limit=0")).status).toBe(422);
  });

  it("are gone for everybody once deleted, and from the totals", async () => {
    const workspace = await newWorkspace();
    const kept = await stored(await upload(workspace, photo(1)));
    const media = await stored(await upload(workspace, photo(2)));
    expect((await workspace.call("DELETE", `/api/media/${media.id}`)).status).toBe(204);
    expect((await workspace.call("DELETE", `/api/media/${media.id}`)).status).toBe(404);
    for (const path of ["", "/url", "/download"]) {
      expect((await workspace.call("GET", `/api/media/${media.id}${path}`)).status).toBe(404);
    }
    const list = await (await workspace.call("GET", "/api/media?type=image")).json<{
      data: MediaBody[];
      total: number;
    }>();
    expect(list).toMatchObject({ total: 1, data: [{ id: kept.id }] });
    expect((await (await workspace.call("GET", "/api/media")).json<{ total: number }>()).total).toBe(1);
  });

  it("tell size, type and hash as headers to HEAD", async () => {
    const workspace = await newWorkspace();
    const media = await stored(await upload(workspace, photo(9)));
    const head = await workspace.call("HEAD", `/api/media/${media.id}`);
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Length")).toBe(String(media.file_size));
    expect(head.headers.get("Content-Type")).toBe("image/jpeg");
    expect(head.headers.get("ETag")).toBe(`"${media.sha256}"`);
    const digest = atob(/^sha-256=:(.*):$/.exec(head.headers.get("Repr-Digest") ?? "")?.[1] ?? "");
    expect([...digest].map((char) => char.charCodeAt(0).toString(16).padStart(2, "0")).join("")).toBe(media.sha256);
    expect((await workspace.call("HEAD", `/api/media/${crypto.randomUUID()}`)).status).toBe(404);
  });

  it("belong to their workspace, and agents may not delete them", async () => {
    const [workspace, other] = [await newWorkspace(), await newWorkspace()];
    const media = await stored(await upload(workspace, photo(10)));
    for (const [method, path] of [
      ["GET", ""],
      ["HEAD", ""],
      ["DELETE", ""],
      ["GET", "/url"],
      ["GET", "/download"],
    ] as const) {
      expect((await other.call(method, `/api/media/${media.id}${path}`)).status, `${method} ${path}`).toBe(404);
      expect((await call(method, `/api/media/${media.id}${path}`)).status, `${method} ${path}`).toBe(401);
    }
    expect((await other.call("GET", `/api/media?workspace_id=${workspace.workspaceId}`)).status).toBe(404);
    const agent = await memberWithRole(workspace, "AGENT");
    expect((await agent.call("GET", `/api/media/${media.id}`)).status).toBe(200);
    expect((await agent.call("DELETE", `/api/media/${media.id}`)).status).toBe(403);
    const sent = await agent.call("POST", "/api/media", formBytes([{ name: "file", file: photo(11) }]), FORM_TYPE);
    expect(sent.status).toBe(201);
    expect((await workspace.call("GET", "/api/media/not-an-id")).status).toBe(422);
  });

  it("read a page of a kind without looking at the rest", async () => {
    const workspace = await newWorkspace();
    const now = Date.now();
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 5000)
       INSERT INTO media (workspace_id, id, type, source, status, file_name, file_size, mime_type, sha256, created_at, updated_at, deleted_at)
       SELECT ?1, printf('0190%04d-0000-7000-8000-000000000000', i), CASE i % 50 WHEN 0 THEN 'audio' ELSE 'image' END, 'upload', 'ready', 'f', 1, 'image/png', 'x',
         ?2, ?2, CASE i % 3 WHEN 0 THEN ?2 END FROM n`,
    )
      .bind(workspace.workspaceId, now)
      .run();
    const db = new Db(env.SHARD_0);
    const first = await pageMedia(db, workspace.workspaceId, undefined, { limit: 20, offset: 0 });
    const deep = await pageMedia(db, workspace.workspaceId, undefined, {
      limit: 20,
      offset: 0,
      cursor: encodeCursor(["01901000-0000-7000-8000-000000000000"]),
    });
    expect([first.rows.length, deep.rows.length]).toEqual([20, 20]);
    expect(db.cost.rowsRead).toBeLessThanOrEqual(2 * (3 * 20 + 10));
  });
});
