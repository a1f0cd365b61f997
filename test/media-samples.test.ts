import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { FORM_TYPE, fileOf, formBytes, hashOf } from "./support/files";
import { newWorkspace } from "./support/identity";
import { fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import {
  type Account,
  atProvider,
  type Body,
  bodyOf,
  make,
  refusedAt,
  welcome,
  withAccount,
} from "./support/templates";

const MB = 1024 * 1024;
const LOC = ["body", "components", "header", "example", "media_id"];

afterEach(() => sandbox.clearFaults());

async function stored(account: Account, bytes: Uint8Array, name: string, type: string): Promise<string> {
  const body = formBytes([{ name: "file", file: { name, type, bytes } }]);
  const response = await account.workspace.call("POST", "/api/media", body, FORM_TYPE);
  return String((await bodyOf(response, 201)).id);
}

function pictured(media_id: string, format = "IMAGE") {
  return { header: { format, example: { media_id } }, body: { text: "Look at this" } };
}

/** The handle that the sandbox gives for these bytes. */
async function handleOf(bytes: Uint8Array): Promise<string> {
  return `4::${btoa(await hashOf(bytes))}`;
}

async function headersAtProvider(account: Account): Promise<unknown[]> {
  const held = await atProvider(account);
  return held.map(({ components }) => (components as Body[]).find(({ type }) => type === "HEADER"));
}

async function handOvers(): Promise<number> {
  return (await sandbox.stats()).calls["upload.bytes"] ?? 0;
}

describe("a file of ours as the example of a header", () => {
  it("is handed to the provider, in every format", async () => {
    const account = await withAccount();
    const kinds = [
      ["IMAGE", "png", "a.png", "image/png"],
      ["VIDEO", "mp4", "a.mp4", "video/mp4"],
      ["DOCUMENT", "pdf", 'the "plan" ü.pdf', "application/pdf"],
    ] as const;
    for (const [format, kind, name, type] of kinds) {
      const id = await stored(account, fileOf(kind), name, type);
      const made = await make(account, { name: `with_${kind}`, components: pictured(id, format) });
      expect(made).toMatchObject({ status: "PENDING", components: pictured(id, format) });
      expect(made.meta_template_id).not.toBeNull();
      expect(await headersAtProvider(account)).toContainEqual({
        type: "HEADER",
        format,
        example: { header_handle: [await handleOf(fileOf(kind))] },
      });
    }
  });

  it("may be as large as a document may be, and is never whole in memory", async () => {
    const account = await withAccount();
    const bytes = new Uint8Array(12 * MB);
    bytes.set(fileOf("pdf").slice(0, 96));
    const id = await stored(account, bytes, "a.pdf", "application/pdf");
    await make(account, { components: pictured(id, "DOCUMENT") });
    expect(await headersAtProvider(account)).toMatchObject([{ example: { header_handle: [await handleOf(bytes)] } }]);
  });

  it("is refused with nothing stored when it is not there, or nothing the provider takes", async () => {
    const account = await withAccount();
    const other = await withAccount(await newWorkspace());
    const large = new Uint8Array(5 * MB + 1);
    large.set(fileOf("jpeg").slice(0, 96));
    const files = {
      foreign: await stored(other, fileOf("png"), "a.png", "image/png"),
      text: await stored(account, fileOf("text"), "a.txt", "text/plain"),
      pdf: await stored(account, fileOf("pdf"), "a.pdf", "application/pdf"),
      large: await stored(account, large, "a.jpg", "image/jpeg"),
      png: await stored(account, fileOf("png"), "a.png", "image/png"),
    };
    const post = (components: Body) =>
      account.workspace.call("POST", "/api/templates", welcome(account, { components }));
    expect(await refusedAt(await post(pictured(files.foreign)))).toEqual(LOC);
    expect(await refusedAt(await post(pictured(crypto.randomUUID())))).toEqual(LOC);
    for (const [id, format] of [
      [files.text, "DOCUMENT"],
      [files.pdf, "IMAGE"],
      [files.large, "IMAGE"],
    ] as const) {
      const refused = await bodyOf(await post(pictured(id, format)), 422);
      expect(refused).toMatchObject({
        code: "provider_limit",
        provider: "meta",
        field: "media_id",
        detail: [{ loc: LOC }],
      });
    }
    expect(
      (await post({ header: { format: "TEXT", text: "Hi", example: { media_id: files.png } }, body: { text: "x" } }))
        .status,
    ).toBe(422);
    const both = {
      header: { format: "IMAGE", example: { media_id: files.png, header_handle: ["4::x"] } },
      body: { text: "x" },
    };
    expect((await post(both)).status).toBe(422);
    expect(await atProvider(account)).toEqual([]);
    const list = await account.workspace.call("GET", `/api/templates?workspace_id=${account.workspace.workspaceId}`);
    expect(await list.json()).toMatchObject({ total: 0 });
  });

  it("waits with its template while the provider is down, and is handed over when it is back", async () => {
    const account = await withAccount();
    const id = await stored(account, fileOf("png", 7), "a.png", "image/png");
    await sandbox.faults({ kind: "reset", on: "other", count: 1 });
    const made = await make(account, { components: pictured(id) });
    expect(made).toMatchObject({ status: "PENDING", meta_template_id: null, components: pictured(id) });
    expect(await atProvider(account)).toEqual([]);
    await fireCron("* * * * *", Date.now() + 3_600_000);
    const after = await account.workspace.call("GET", `/api/templates/${made.id}`);
    expect((await bodyOf(after, 200)).meta_template_id).not.toBeNull();
    expect(await headersAtProvider(account)).toMatchObject([
      { example: { header_handle: [await handleOf(fileOf("png", 7))] } },
    ]);
  });

  it("that was deleted meanwhile rejects its template with the reason", async () => {
    const account = await withAccount();
    const id = await stored(account, fileOf("png", 8), "a.png", "image/png");
    await sandbox.faults({ kind: "reset", on: "other", count: 1 });
    const made = await make(account, { components: pictured(id) });
    await account.workspace.call("DELETE", `/api/media/${id}`);
    await fireCron("* * * * *", Date.now() + 3_600_000);
    const after = await bodyOf(await account.workspace.call("GET", `/api/templates/${made.id}`), 200);
    expect(after).toMatchObject({ status: "REJECTED", rejection_reason: expect.stringContaining("deleted") });
  });

  it("replaces the one before when the template is edited", async () => {
    const account = await withAccount();
    const [first, second] = [
      await stored(account, fileOf("png", 1), "a.png", "image/png"),
      await stored(account, fileOf("png", 2), "b.png", "image/png"),
    ];
    const made = await make(account, { components: pictured(first) });
    await sandbox.review(String(made.meta_template_id), "REJECTED");
    const before = await handOvers();
    const edit = (components: Body) => account.workspace.call("PATCH", `/api/templates/${made.id}`, { components });
    expect((await edit(pictured(crypto.randomUUID()))).status).toBe(422);
    await bodyOf(await edit(pictured(second)), 200);
    expect((await handOvers()) - before).toBe(1);
    expect(await headersAtProvider(account)).toMatchObject([
      { example: { header_handle: [await handleOf(fileOf("png", 2))] } },
    ]);
  });

  it("says which setting is missing where the deployment has none for it", async () => {
    const account = await withAccount();
    const id = await stored(account, fileOf("png", 9), "a.png", "image/png");
    const { api } = await import("../src/api");
    const request = new Request("http://switchboard.test/api/templates", {
      method: "POST",
      headers: { Authorization: `Bearer ${account.workspace.token}`, "Content-Type": "application/json" },
      body: JSON.stringify(welcome(account, { components: pictured(id) })),
    });
    const refused = await api.fetch(request, { ...env, META_APP_ID: "" } as Env);
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain("META_APP_ID");
  });
});
