import { env, exports } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { signLink } from "../src/media/links";
import { askedRange, hasTag } from "../src/media/range";
import { createRuntime } from "../src/platform/runtime";
import { FORM_TYPE, fileOf, formBytes } from "./support/files";
import { newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";

interface Stored {
  id: string;
  sha256: string;
  storage_url: string;
}

async function stored(
  workspace: TestWorkspace,
  file: { name?: string; type: string; bytes: Uint8Array },
): Promise<Stored> {
  const response = await workspace.call("POST", "/api/media", formBytes([{ name: "file", file }]), FORM_TYPE);
  expect(response.status).toBe(201);
  return response.json();
}

async function urlOf(workspace: TestWorkspace, id: string, query = ""): Promise<string> {
  const response = await workspace.call("GET", `/api/media/${id}/url${query}`);
  expect(response.status).toBe(200);
  return (await response.json<{ url: string }>()).url;
}

function read(url: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> {
  return exports.default.fetch(url, { method, headers });
}

/** A picture of 100 bytes, each byte after the first 20 its own place. */
async function picture() {
  const workspace = await newWorkspace();
  const bytes = fileOf("jpeg").map((byte, at) => (at < 20 ? byte : at));
  const media = await stored(workspace, { name: "a.jpg", type: "image/jpeg", bytes });
  return { workspace, media, bytes, url: await urlOf(workspace, media.id) };
}

describe("a signed address", () => {
  it("is what the document describes", async () => {
    const { workspace, media } = await picture();
    const response = await workspace.call("GET", `/api/media/${media.id}/url?expiry_minutes=120`);
    const body = await response.json<{ url: string; expires_in_minutes: number; expires_at: string }>();
    expect(body.expires_in_minutes).toBe(120);
    const left = Date.parse(body.expires_at) - Date.now();
    expect(left).toBeGreaterThan(119 * 60_000);
    expect(left).toBeLessThanOrEqual(120 * 60_000);
    expect(body.url.startsWith(`${media.storage_url}?`)).toBe(true);
    const preset = await (await workspace.call("GET", `/api/media/${media.id}/url`)).json();
    expect(preset).toMatchObject({ expires_in_minutes: 60 });
    for (const minutes of ["4", "1441", "0", "-5", "abc", "5.5", ""]) {
      const refused = await workspace.call("GET", `/api/media/${media.id}/url?expiry_minutes=${minutes}`);
      expect(refused.status, minutes).toBe(422);
    }
    for (const minutes of ["5", "1440"]) {
      expect((await workspace.call("GET", `/api/media/${media.id}/url?expiry_minutes=${minutes}`)).status).toBe(200);
    }
  });

  it("is where a download leads, for 60 minutes, to be saved", async () => {
    const { workspace, media, bytes } = await picture();
    const answer = await exports.default.fetch(`http://switchboard.test/api/media/${media.id}/download`, {
      headers: { Authorization: `Bearer ${workspace.token}` },
      redirect: "manual",
    });
    expect(answer.status).toBe(307);
    const location = answer.headers.get("Location") ?? "";
    const left = Number(new URL(location).searchParams.get("expires")) - Date.now() / 1000;
    expect(left).toBeGreaterThan(59 * 60);
    expect(left).toBeLessThanOrEqual(60 * 60);
    const file = await read(location);
    expect(file.status).toBe(200);
    expect(file.headers.get("Content-Disposition")).toMatch(/^attachment; /);
    expect(new Uint8Array(await file.arrayBuffer())).toEqual(bytes);
  });

  it("answers 403 once any of it is changed, and without a signature", async () => {
    const { media, url } = await picture();
    const changed = (change: (url: URL) => void): string => {
      const other = new URL(url);
      change(other);
      return other.toString();
    };
    const signature = new URL(url).searchParams.get("signature") ?? "";
    const flipped = (at: number) =>
      signature.slice(0, at) + (signature[at] === "A" ? "B" : "A") + signature.slice(at + 1);
    const other = await picture();
    const forgeries = [
      media.storage_url,
      changed((u) => u.searchParams.set("expires", String(Number(u.searchParams.get("expires")) + 60))),
      changed((u) => u.searchParams.set("disposition", "attachment")),
      changed((u) => u.searchParams.set("shard", "1")),
      changed((u) => u.searchParams.delete("signature")),
      changed((u) => u.searchParams.set("signature", "")),
      changed((u) => {
        u.pathname = u.pathname.replace(media.id, other.media.id);
      }),
      changed((u) => {
        u.pathname = u.pathname.replace(/media\/[^/]+/, `media/${other.workspace.workspaceId}`);
      }),
      ...Array.from({ length: signature.length }, (_, at) =>
        changed((u) => u.searchParams.set("signature", flipped(at))),
      ),
      changed((u) => u.searchParams.set("signature", `${signature}=`)),
    ];
    expect((await read(url)).status).toBe(200);
    for (const forged of forgeries) expect((await read(forged)).status, forged).toBe(403);
    // The last digit of the signature holds two bits that decode to nothing: only one spelling of it counts.
    const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".split("");
    const good = [];
    for (const digit of last) {
      const spelled = changed((u) => u.searchParams.set("signature", signature.slice(0, -1) + digit));
      if ((await read(spelled)).status === 200) good.push(digit);
    }
    expect(good).toEqual([signature.at(-1)]);
  });

  it("answers 403 from the second it expires", async () => {
    const { workspace, media } = await picture();
    const now = Math.floor(Date.now() / 1000);
    const link = { workspaceId: workspace.workspaceId, mediaId: media.id, shard: 0, disposition: "inline" as const };
    const at = async (expires: number) =>
      (await read(`http://switchboard.test${await signLink(testRuntime(), { ...link, expires })}`)).status;
    expect(await at(now + 60)).toBe(200);
    expect(await at(now)).toBe(403);
    expect(await at(now - 1)).toBe(403);
  });

  it("counts with the previous master secret, and with no other", async () => {
    const { workspace, media } = await picture();
    const link = {
      workspaceId: workspace.workspaceId,
      mediaId: media.id,
      shard: 0,
      expires: Math.floor(Date.now() / 1000) + 60,
      disposition: "inline" as const,
    };
    const signedBy = async (secret: string) =>
      `http://switchboard.test${await signLink(createRuntime({ ...env, SECRET_KEY: secret } as Env), link)}`;
    const previous = "an-older-master-secret-0123456789-abcdefghijkl";
    const { api } = await import("../src/api");
    const rotated = { ...env, SECRET_KEY_PREVIOUS: previous } as Env;
    expect((await api.fetch(new Request(await signedBy(previous)), rotated)).status).toBe(200);
    expect((await api.fetch(new Request(await signedBy(previous)), env)).status).toBe(403);
  });

  it("leads nowhere once the file or its workspace is deleted", async () => {
    const first = await picture();
    expect((await first.workspace.call("DELETE", `/api/media/${first.media.id}`)).status).toBe(204);
    expect((await read(first.url)).status).toBe(404);
    // What a browser kept is not confirmed either.
    expect((await read(first.url, { "If-None-Match": `"${first.media.sha256}"` })).status).toBe(404);
    const second = await picture();
    await second.workspace.call("DELETE", `/api/workspaces/${second.workspace.workspaceId}`);
    expect((await read(second.url)).status).toBe(404);
  });

  it("works for files of every shard", async () => {
    const workspace = await newWorkspace({ shard: 1 });
    const media = await stored(workspace, { name: "a.png", type: "image/png", bytes: fileOf("png") });
    expect((await read(await urlOf(workspace, media.id))).status).toBe(200);
  });
});

describe("a file's bytes", () => {
  it("come with headers that keep them from running and from being kept by others", async () => {
    const { url } = await picture();
    const { headers } = await read(url);
    expect(headers.get("Content-Security-Policy")).toBe("sandbox; default-src 'none'");
    expect(headers.get("X-Content-Type-Options")).toBe("nosniff");
    expect(headers.get("Cache-Control")).toMatch(/^private\b/);
    expect(headers.get("Accept-Ranges")).toBe("bytes");
    expect(headers.get("Content-Type")).toBe("image/jpeg");
    expect(headers.get("Content-Length")).toBe("100");
    expect(headers.get("Content-Disposition")).toMatch(/^inline; filename="a.jpg"/);
    expect(headers.get("Access-Control-Allow-Origin")).toBe("*");
  });

  it("are shown when they are picture, sound or video, and saved otherwise", async () => {
    const workspace = await newWorkspace();
    const shown: [string, string, boolean][] = [
      ["png", "image/png", true],
      ["mp4", "video/mp4", true],
      ["ogg", "audio/ogg", true],
      ["pdf", "application/pdf", false],
      ["text", "text/plain", false],
      ["cfb", "application/msword", false],
    ];
    for (const [kind, type, inline] of shown) {
      const media = await stored(workspace, { name: "a", type, bytes: fileOf(kind) });
      const { headers } = await read(await urlOf(workspace, media.id));
      expect(headers.get("Content-Disposition"), type).toMatch(inline ? /^inline;/ : /^attachment;/);
    }
  });

  it("of a drawing that can hold scripts are saved, whoever sent it", async () => {
    const { workspace, media, url } = await picture();
    await env.SHARD_0.prepare("UPDATE media SET mime_type = 'image/svg+xml' WHERE workspace_id = ?1 AND id = ?2")
      .bind(workspace.workspaceId, media.id)
      .run();
    expect((await read(url)).headers.get("Content-Disposition")).toMatch(/^attachment;/);
  });

  it("are named as they are, without breaking the header", async () => {
    const workspace = await newWorkspace();
    const name = 'Grüße "von" 照片 %41\'(1)*.jpg';
    const media = await stored(workspace, {
      name: name.replaceAll('"', "%22"),
      type: "image/jpeg",
      bytes: fileOf("jpeg"),
    });
    const disposition = (await read(await urlOf(workspace, media.id))).headers.get("Content-Disposition") ?? "";
    const match = /^inline; filename="([^"]*)"; filename\*=UTF-8''([\w%.~!*'()-]+)$/.exec(disposition);
    expect(match?.[1]).toMatch(/^Gr__e _von_ __ _41'\(1\)\*\.jpg$/);
    expect(decodeURIComponent(match?.[2] ?? "")).toBe(name);
    const unnamed = await stored(workspace, { type: "image/png", bytes: fileOf("png") });
    expect((await read(await urlOf(workspace, unnamed.id))).headers.get("Content-Disposition")).toContain(
      'filename="file.png"',
    );
  });

  it("are answered in parts", async () => {
    const { url, bytes } = await picture();
    const parts: [string, number, number][] = [
      ["bytes=0-0", 0, 1],
      ["bytes=0-9", 0, 10],
      ["bytes=90-", 90, 100],
      ["bytes=99-99", 99, 100],
      ["bytes=50-1000", 50, 100],
      ["bytes=-10", 90, 100],
      ["bytes=-1000", 0, 100],
      ["bytes = 10 - 19", 10, 20],
      ["Bytes=10-19", 10, 20],
    ];
    for (const [range, from, to] of parts) {
      const part = await read(url, { Range: range });
      expect(part.status, range).toBe(206);
      expect(part.headers.get("Content-Range")).toBe(`bytes ${from}-${to - 1}/100`);
      expect(part.headers.get("Content-Length")).toBe(String(to - from));
      expect(new Uint8Array(await part.arrayBuffer())).toEqual(bytes.slice(from, to));
    }
    for (const range of ["bytes=100-", "bytes=100-200", "bytes=-0"]) {
      const outside = await read(url, { Range: range });
      expect(outside.status, range).toBe(416);
      expect(outside.headers.get("Content-Range")).toBe("bytes */100");
      expect(await outside.text()).toBe("");
    }
    for (const range of ["bytes=0-9,20-29", "items=0-9", "bytes=9-0", "bytes=", "bytes=-", "bytes=a-b", "bytes=1"]) {
      const whole = await read(url, { Range: range });
      expect(whole.status, range).toBe(200);
      expect((await whole.arrayBuffer()).byteLength).toBe(100);
    }
  });

  it("are not sent again to who has them, and a part only of the file it began with", async () => {
    const { url, media } = await picture();
    const tag = `"${media.sha256}"`;
    const { headers } = await read(url);
    expect(headers.get("ETag")).toBe(tag);
    for (const known of [tag, `W/${tag}`, `"other", ${tag}`, "*"]) {
      const answer = await read(url, { "If-None-Match": known });
      expect(answer.status, known).toBe(304);
      expect(answer.headers.get("ETag")).toBe(tag);
      expect(await answer.text()).toBe("");
    }
    expect((await read(url, { "If-None-Match": '"other"' })).status).toBe(200);
    expect((await read(url, { "If-None-Match": tag, Range: "bytes=0-9" })).status).toBe(304);
    expect((await read(url, { "If-Range": tag, Range: "bytes=0-9" })).status).toBe(206);
    expect((await read(url, { "If-Range": '"other"', Range: "bytes=0-9" })).status).toBe(200);
    expect((await read(url, { "If-Range": "Wed, 21 Oct 2026 07:28:00 GMT", Range: "bytes=0-9" })).status).toBe(200);
  });

  it("are told by HEAD without being read", async () => {
    const { url } = await picture();
    const head = await read(url, { Range: "bytes=0-9" }, "HEAD");
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Length")).toBe("100");
    expect(await head.text()).toBe("");
  });

  it("that are missing are a 404, not a failure", async () => {
    const { workspace, media, url } = await picture();
    const row = await env.SHARD_0.prepare("SELECT object_id FROM media WHERE workspace_id = ?1 AND id = ?2")
      .bind(workspace.workspaceId, media.id)
      .first<{ object_id: string }>();
    await env.MEDIA.delete(`media/${row?.object_id}`);
    expect((await read(url)).status).toBe(404);
  });
});

describe("range and tag headers", () => {
  it("never ask for a byte outside of the file", () => {
    for (const size of [1, 2, 10]) {
      for (let first = 0; first < 12; first += 1) {
        for (let last = 0; last < 12; last += 1) {
          const range = askedRange(`bytes=${first}-${last}`, size);
          if (range.kind !== "part") continue;
          expect(range.offset).toBe(first);
          expect(range.length).toBeGreaterThan(0);
          expect(range.offset + range.length).toBeLessThanOrEqual(Math.min(size, last + 1));
        }
      }
    }
    expect(askedRange("bytes=99999999999999999999-", 10).kind).toBe("all");
    expect(askedRange("bytes=999999999999999-", 10).kind).toBe("outside");
    expect(askedRange(undefined, 10).kind).toBe("all");
  });

  it("match a tag only as a whole", () => {
    expect(hasTag('"ab"', '"a"')).toBe(false);
    expect(hasTag(undefined, '"a"')).toBe(false);
    expect(hasTag('W/"a" , "b"', '"a"')).toBe(true);
  });
});
