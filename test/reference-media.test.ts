import { describe, expect, it } from "vitest";
import { z } from "zod";
import mediaFile from "./fixtures/reference/media.json";
import { fileOf, hashOf } from "./support/files";
import { newWorkspace } from "./support/identity";
import { type Block, example, examplesOf, type Known, partOf, textOf } from "./support/reference";
import { answered, fileNamed, runCurl, send, sendForm } from "./support/reference-calls";
import { describeEndpoints } from "./support/reference-endpoints";

const media = examplesOf(mediaFile);
const upload = example(media, "Upload Media");

describeEndpoints(media, ["Delete Media"]);

/** A picture of the printed size. */
function photo(): Uint8Array {
  const bytes = new Uint8Array(1_024_000);
  bytes.set(fileOf("jpeg"));
  return bytes;
}

async function ready() {
  const workspace = await newWorkspace();
  const known: Known = { "workspace-uuid": workspace.workspaceId, "user-uuid": workspace.userId };
  return { workspace, known };
}

/** The same with the printed file uploaded. */
async function stored() {
  const { workspace, known } = await ready();
  const file = fileNamed("photo.jpg", photo());
  const fields = { workspace_id: workspace.workspaceId, file };
  const answer = await answered(await sendForm(upload, known, workspace.token, fields), upload, known);
  const { id } = z.looseObject({ id: z.uuid() }).parse(answer);
  return { workspace, known: { ...known, "media-uuid": id, "{media_id}": id }, answer };
}

/** What the document's script for a browser sends: its form, with what its own expressions stand for. */
function scripted({ text }: Block, known: Known, file: File, token: string) {
  const script = text.join("\n");
  const form = new FormData();
  for (const [, name = "", literal, expression = ""] of script.matchAll(
    /append\('(\w+)', (?:'([^']*)'|([\w.[\]]+))\)/g,
  )) {
    form.append(name, expression === "fileInput.files[0]" ? file : textOf(known, literal ?? expression));
  }
  const [, path = ""] = /fetch\(['`](?:https:\/\/[^/]+|\$\{baseUrl\})([^'`]+)['`]/.exec(script) ?? [];
  const [, method = ""] = /method: '(\w+)'/.exec(script) ?? [];
  expect(script).toMatch(/'Authorization': ['`]Bearer (YOUR_ACCESS_TOKEN|\$\{token\})['`]/);
  return { path, method, form, headers: { Authorization: `Bearer ${token}` } };
}

describe("Upload Media", () => {
  it("answers the form as printed", async () => {
    const fields = partOf(upload, "form").text.map((row) => /^\| `(\w+)`/.exec(row)?.[1]);
    expect(fields).toEqual(["workspace_id", "file"]);
    await stored();
  });

  it("answers the curl command as printed, with the name that its own file has", async () => {
    const { workspace, known } = await ready();
    const files = { "/path/to/image.jpg": photo() };
    const response = await runCurl(partOf(upload, "curl"), known, workspace.token, files);
    await answered(response, upload, known, { file_name: "image.jpg" });
  });

  it.each([
    ["its own", partOf(upload, "javascript")],
    ["the best practice's", mediaFile.upload_practice],
  ])("answers a browser's script as printed: %s", async (_, script) => {
    const { workspace, known } = await ready();
    const all = { ...known, workspaceId: workspace.workspaceId };
    const file = fileNamed("photo.jpg", photo());
    const { path, method, form, headers } = scripted(script, all, file, workspace.token);
    expect([method, path]).toEqual(["POST", "/api/media"]);
    await answered(await workspace.call(method, path, form, headers), upload, known);
  });
});

describe("a file", () => {
  it("List Media: with its workspace alone, and with every parameter", async () => {
    const { workspace, known } = await stored();
    const list = example(media, "List Media");
    const query = { workspace_id: workspace.workspaceId };
    await answered(await send(list, known, workspace.token, query), list, known);
    const all = { ...query, type: "image", limit: "20", offset: "0" };
    await answered(await send(list, known, workspace.token, all), list, known);
    const others = await send(list, known, workspace.token, { ...query, type: "video" });
    expect(await others.json()).toMatchObject({ data: [], total: 0 });
  });

  it("Get Media Details answers what the upload did", async () => {
    const { workspace, known, answer } = await stored();
    const get = example(media, "Get Media Details");
    expect(await answered(await send(get, known, workspace.token), get)).toEqual(answer);
  });

  it("Delete Media", async () => {
    const { workspace, known } = await stored();
    const remove = example(media, "Delete Media");
    expect(await answered(await send(remove, known, workspace.token), remove)).toBeNull();
    expect((await send(example(media, "Get Media Details"), known, workspace.token)).status).toBe(404);
  });

  it("Download Media redirects for as long as printed; curl -L has the bytes", async () => {
    const { workspace, known } = await stored();
    const download = example(media, "Download Media");
    const response = await send(download, known, workspace.token);
    expect(response.status).toBe(download.status?.code);
    const expires = new URL(response.headers.get("Location") ?? "").searchParams.get("expires");
    const minutes = (Number(expires) - Date.now() / 1000) / 60;
    const [note] = partOf(download, "notes");
    const printed = Number(/valid for (\d+) minutes/.exec(note?.text ?? "")?.[1]);
    expect(minutes).toBeGreaterThan(printed - 1);
    expect(minutes).toBeLessThanOrEqual(printed);
    const file = await runCurl(partOf(download, "curl"), known, workspace.token);
    expect(file.status).toBe(200);
    expect(file.headers.get("Content-Type")).toBe("image/jpeg");
    expect(await hashOf(new Uint8Array(await file.arrayBuffer()))).toBe(await hashOf(photo()));
  });

  it("Get Media URL: for an hour as printed, and for as long as the curl command says", async () => {
    const { workspace, known } = await stored();
    const getUrl = example(media, "Get Media URL");
    const answer = z.looseObject({ url: z.url(), expires_at: z.iso.datetime() });
    const minutes = (body: z.infer<typeof answer>) => (Date.parse(body.expires_at) - Date.now()) / 60_000;
    const hour = answer.parse(await answered(await send(getUrl, known, workspace.token), getUrl, known));
    expect(minutes(hour)).toBeGreaterThan(59);
    expect(minutes(hour)).toBeLessThanOrEqual(60);
    const { pathname, search } = new URL(hour.url);
    const file = await workspace.call("GET", pathname + search, undefined, { Authorization: "" });
    expect(await hashOf(new Uint8Array(await file.arrayBuffer()))).toBe(await hashOf(photo()));

    const response = await runCurl(partOf(getUrl, "curl"), known, workspace.token);
    const longer = answer.parse(await answered(response, getUrl, known, { expires_in_minutes: 120 }));
    expect(minutes(longer)).toBeGreaterThan(119);
    expect(minutes(longer)).toBeLessThanOrEqual(120);
  });
});
