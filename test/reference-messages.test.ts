import { describe, expect, it } from "vitest";
import { z } from "zod";
import mediaFile from "./fixtures/reference/media.json";
import messagesFile from "./fixtures/reference/messages.json";
import { fileOf } from "./support/files";
import { newWorkspace, type TestWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { untilStatus } from "./support/pipeline";
import { type Example, example, examplesOf, jsonOf, type Known, listOf, partOf } from "./support/reference";
import { answered, FORMS, type Form, fileNamed, run, send, sendBody, sendForm } from "./support/reference-calls";
import { sandbox } from "./support/sandbox";
import { approved, make, withAccount } from "./support/templates";

const messages = examplesOf(messagesFile);
const media = examplesOf(mediaFile);

const identified = z.looseObject({ id: z.uuid() });

/** What the provider took from a number; it is called with digits. */
async function atProvider(providerNumberId: string) {
  return (await sandbox.accepted({ phone_number_id: providerNumberId })).data.map(({ body }) => body);
}

describe("Send Template Message", () => {
  const found = example(messages, "Send Template Message");

  it("sends the template that the document makes, its parameter filled in", async () => {
    const account = await withAccount();
    await approved(account);
    const { workspace, number } = account;
    const known: Known = { "workspace-uuid": workspace.workspaceId, "phone-uuid": number.id };
    const message = await answered(await send(found, known, workspace.token), found);
    expect(message).toMatchObject({
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      direction: "outbound",
      to_number: "+1234567890",
      type: "template",
      status: "queued",
    });
    await untilStatus(identified.parse(message).id, workspace.workspaceId, "sent");
    expect(await atProvider(number.providerNumberId)).toMatchObject([
      {
        to: "1234567890",
        type: "template",
        template: {
          name: "welcome_message",
          language: { code: "en" },
          components: [{ type: "body", parameters: [{ type: "text", text: "John" }] }],
        },
      },
    ]);
  });

  it("sends a pre-approved template only", async () => {
    const account = await withAccount();
    await make(account);
    const { workspace, number } = account;
    const known: Known = { "workspace-uuid": workspace.workspaceId, "phone-uuid": number.id };
    const refused = await send(found, known, workspace.token);
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({ detail: [{ loc: ["body", "template_name"] }] });
  });
});

/** A workspace with a number, and how it uploads. */
async function sender() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  const known: Known = { "workspace-uuid": workspace.workspaceId, "phone-uuid": number.id };
  return { workspace, number, known };
}

async function uploaded(workspace: TestWorkspace, file: File): Promise<Record<string, unknown> & { id: string }> {
  const upload: Example = { ...example(media, "Upload Media"), response: undefined };
  const fields = { workspace_id: workspace.workspaceId, file };
  return identified.parse(await answered(await sendForm(upload, {}, workspace.token, fields), upload));
}

describe("Send Media Message", () => {
  const found = example(messages, "Send Media Message");
  const captions: Record<Form, string> = { request: "Check out this image!", curl: "Check this out!" };

  it.each(FORMS)("answers as printed and reaches the provider (%s)", async (form) => {
    const { workspace, number, known } = await sender();
    const { id: mediaId } = await uploaded(workspace, fileNamed("photo.jpg", fileOf("jpeg")));
    const all = { ...known, "media-uuid": mediaId };
    const { id } = identified.parse(await answered(await run(form, found, all, workspace.token), found, all));
    await untilStatus(id, workspace.workspaceId, "sent");
    expect(await atProvider(number.providerNumberId)).toMatchObject([
      { to: "1234567890", type: "image", image: { id: expect.any(String), caption: captions[form] } },
    ]);
  });

  it("takes captions up to the printed length, of which the provider may carry less, or none", async () => {
    const { workspace, known } = await sender();
    const { id: mediaId } = await uploaded(workspace, fileNamed("photo.jpg", fileOf("jpeg")));
    const request = z.looseObject({}).parse(jsonOf(partOf(found, "request")));
    const post = (caption: string | undefined) =>
      sendBody(found, { ...known, "media-uuid": mediaId }, workspace.token, { ...request, caption });
    const printed = partOf(found, "request").text.map((row) => /optional, max (\d+) chars/.exec(row)?.[1]);
    const most = Number(printed.find((count) => count !== undefined));
    expect(most).toBe(3000);
    expect((await post(undefined)).status).toBe(201);
    const tooLong = await post("x".repeat(most + 1));
    expect(tooLong.status).toBe(422);
    expect(await tooLong.json()).toMatchObject({
      code: "validation",
      detail: [{ loc: ["body", "caption"], type: "value_error" }],
    });
    const notCarried = await post("x".repeat(most));
    expect(notCarried.status).toBe(422);
    expect(await notCarried.json()).toMatchObject({
      code: "provider_limit",
      provider: "meta",
      limit: 1024,
      field: "caption",
    });
    expect((await post("x".repeat(1024))).status).toBe(201);
  });

  /** Files of the printed formats, by the name the document gives them. */
  const files: Record<string, File> = {
    "image JPEG": fileNamed("a.jpg", fileOf("jpeg")),
    "image PNG": fileNamed("a.png", fileOf("png")),
    "image GIF": fileNamed("a.gif", fileOf("gif")),
    "image BMP": fileNamed("a.bmp", fileOf("bmp")),
    "video MP4": fileNamed("a.mp4", fileOf("mp4")),
    "video 3GPP": fileNamed("a.3gp", fileOf("gpp")),
    "video QuickTime": fileNamed("a.mov", fileOf("mov")),
    "audio AAC": fileNamed("a.aac", fileOf("aac")),
    "audio MP4": fileNamed("a.m4a", fileOf("m4a")),
    "audio MPEG": fileNamed("a.mp3", fileOf("mp3")),
    "audio AMR": fileNamed("a.amr", fileOf("amr")),
    "audio OGG": fileNamed("a.ogg", fileOf("ogg")),
    "document PDF": fileNamed("a.pdf", fileOf("pdf")),
    "document DOC": fileNamed("a.doc", fileOf("cfb")),
    "document XLS": fileNamed("a.xls", fileOf("cfb")),
    "document PPT": fileNamed("a.ppt", fileOf("cfb")),
    "document TXT": fileNamed("a.txt", fileOf("text")),
  };
  const rows = listOf(found, "Media Types").text.flatMap((row) => {
    const [, type = "", formats = "", size = ""] = /^- `(\w+)` - (.+) \(max (\d+) MB\)$/.exec(row) ?? [];
    return formats.split(", ").map((format) => ({ type, format, megabytes: Number(size) }));
  });
  /** Taken, but not by WhatsApp: the answer says so at once (contract 15). */
  const notOnWhatsApp = ["image GIF", "image BMP", "video QuickTime"];

  it("prints formats, and each of them is tried here", () => {
    expect(rows.map(({ type, format }) => `${type} ${format}`)).toEqual(Object.keys(files));
  });

  it.each(rows)("takes $type of the format $format", async ({ type, format }) => {
    const { workspace, known } = await sender();
    const file = files[`${type} ${format}`];
    if (!file) throw new Error("There is no such file");
    const stored = await uploaded(workspace, file);
    expect(stored.type).toBe(type);
    const { caption: _, ...request } = z.looseObject({}).parse(jsonOf(partOf(found, "request")));
    const body = { ...request, media_type: type };
    const response = await sendBody(found, { ...known, "media-uuid": stored.id }, workspace.token, body);
    if (notOnWhatsApp.includes(`${type} ${format}`)) {
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({ code: "provider_limit", provider: "meta", field: "media_id" });
      return;
    }
    expect(await answered(response, { ...found, response: undefined })).toMatchObject({ type, media_id: stored.id });
  });

  const sizes = [...new Map(rows.map((row) => [row.type, row])).values()];
  it.each(sizes)("takes $type up to $megabytes MB and no byte more", async ({ type, format, megabytes }) => {
    const { workspace } = await sender();
    const largest = megabytes * 1024 * 1024;
    const begin = (size: number) =>
      workspace.call("POST", "/api/media/uploads", { file_name: files[`${type} ${format}`]?.name, file_size: size });
    expect((await begin(largest)).status).toBe(201);
    expect((await begin(largest + 1)).status).toBe(413);
    // The same sizes stand once more where the upload is described.
    const heading = { image: "Images", video: "Videos", audio: "Audio", document: "Documents" }[type];
    expect(listOf(example(media, "Upload Media"), "File Size Limits").text).toContain(`- ${heading}: ${megabytes} MB`);
  });
});
