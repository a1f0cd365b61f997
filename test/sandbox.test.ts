import { beforeEach, describe, expect, it } from "vitest";
import { graph, textMessage } from "./support/graph";
import { sandbox } from "./support/sandbox";

const PHONE = "106540352242922";

const send = (extra: Record<string, unknown> = {}, token?: string) =>
  graph("POST", `/${PHONE}/messages`, textMessage(extra), token);

const only = (type: string, part: unknown) => ({ text: undefined, type, [type]: part });

beforeEach(async () => {
  await sandbox.reset();
});

describe("accepting messages", () => {
  it("answers with the WhatsApp id, a unique message id and nothing else for free-form messages", async () => {
    const first = await send();
    const second = await send();
    expect(first.status).toBe(200);
    expect(first.body).toEqual({
      messaging_product: "whatsapp",
      contacts: [{ input: "+15550001111", wa_id: "15550001111" }],
      messages: [{ id: expect.stringMatching(/^wamid\.[A-Za-z0-9+/=]{40,}$/) }],
    });
    expect(second.body.messages).not.toEqual(first.body.messages);
  });

  it.each([
    ["a Brazilian mobile of area 31", "+55 31 99876-5432", "553198765432"],
    ["a Brazilian mobile of area 11, which keeps its ninth digit", "+5511998765432", "5511998765432"],
    ["a Mexican number", "+525512345678", "5215512345678"],
    ["an Argentine number", "+541123456789", "5491123456789"],
  ])("gives %s the WhatsApp id it has there", async (_what, to, waId) => {
    const { body } = await send({ to });
    expect(body.contacts).toEqual([{ input: to, wa_id: waId }]);
  });

  it("takes a user id instead of a phone number, or beside it, and the phone number wins", async () => {
    const byId = await send({ to: undefined, recipient: "US.13491208655302741918" });
    expect(byId.body.contacts).toEqual([{ input: "US.13491208655302741918", user_id: "US.13491208655302741918" }]);
    const both = await send({ recipient: "US.13491208655302741918" });
    expect(both.body.contacts).toEqual([
      { input: "+15550001111", wa_id: "15550001111", user_id: "US.13491208655302741918" },
    ]);
  });

  it.each([
    ["image", only("image", { link: "https://files.example/a.jpg", caption: "x".repeat(1024) })],
    ["video", only("video", { link: "https://files.example/a.mp4" })],
    ["document", only("document", { link: "https://files.example/a.pdf", caption: "Bill", filename: "bill.pdf" })],
    ["audio", only("audio", { link: "https://files.example/a.ogg", voice: true })],
    ["sticker", only("sticker", { link: "https://files.example/a.webp" })],
    ["location", only("location", { latitude: 41.7, longitude: 44.8, name: "Office", address: "Street 1" })],
    [
      "contacts",
      only("contacts", [
        { name: { formatted_name: "Ana B", first_name: "Ana" }, phones: [{ phone: "+15550002222", type: "WORK" }] },
      ]),
    ],
    ["reaction", only("reaction", { message_id: "wamid.X", emoji: "👍🏽" })],
    ["a removed reaction", only("reaction", { message_id: "wamid.X", emoji: "" })],
    [
      "reply buttons",
      only("interactive", {
        type: "button",
        header: { type: "image", image: { link: "https://files.example/a.jpg" } },
        body: { text: "Choose" },
        footer: { text: "Thanks" },
        action: {
          buttons: [
            { type: "reply", reply: { id: "yes", title: "Yes" } },
            { type: "reply", reply: { id: "no", title: "No" } },
          ],
        },
      }),
    ],
    [
      "a list",
      only("interactive", {
        type: "list",
        body: { text: "Choose" },
        action: {
          button: "Open",
          sections: [
            { title: "One", rows: [{ id: "1", title: "First", description: "d".repeat(72) }] },
            { title: "Two", rows: [{ id: "2", title: "Second" }] },
          ],
        },
      }),
    ],
    [
      "a link button",
      only("interactive", {
        type: "cta_url",
        body: { text: "See" },
        action: { name: "cta_url", parameters: { display_text: "Open", url: "https://example.com/a" } },
      }),
    ],
    [
      "a flow",
      only("interactive", {
        type: "flow",
        body: { text: "Book" },
        action: {
          name: "flow",
          parameters: {
            flow_message_version: "3",
            flow_id: "123",
            flow_cta: "Book",
            flow_action: "navigate",
            flow_action_payload: { screen: "FIRST" },
          },
        },
      }),
    ],
    [
      "a location request",
      only("interactive", {
        type: "location_request_message",
        body: { text: "Where?" },
        action: { name: "send_location" },
      }),
    ],
    [
      "a quote and callback data of 512",
      { context: { message_id: "wamid.Q" }, biz_opaque_callback_data: "c".repeat(512) },
    ],
    ["a text of 4096", { text: { body: "t".repeat(4096), preview_url: true } }],
    ["a group", { recipient_type: "group", to: "group-id-1" }],
  ])("takes %s", async (_what, message) => {
    const reply = await send(message);
    expect(reply.body).toHaveProperty("messages");
    expect((await sandbox.accepted()).total).toBe(1);
  });
});

const button = (id: string, title = id) => ({ type: "reply", reply: { id, title } });
const buttons = (...list: unknown[]) =>
  only("interactive", { type: "button", body: { text: "Choose" }, action: { buttons: list } });
const listOf = (sections: unknown[]) =>
  only("interactive", { type: "list", body: { text: "Choose" }, action: { button: "Open", sections } });
const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => ({ id: `${from + i}`, title: "Row" }));

describe("refusing messages", () => {
  it.each([
    ["no messaging_product", { messaging_product: undefined }, 100, "messaging_product is required"],
    ["nobody to send to", { to: undefined }, 100, "The parameter to is required"],
    ["an unknown type", { type: "fax", fax: {} }, 100, "Param type must be one of {TEXT, IMAGE"],
    ["a type without its part", { text: undefined }, 131008, "Parameter 'text' is mandatory"],
    ["a part without its member", { text: {} }, 131008, "text['body']' is mandatory"],
    ["an empty text", { text: { body: "" } }, 100, "text['body'] must be at least 1 characters"],
    ["a text of 4097", { text: { body: "t".repeat(4097) } }, 100, "text['body'] must be at most 4096 characters"],
    ["an unknown member", { text: { body: "a", colour: "red" } }, 100, 'Unexpected key "colour" on param "text"'],
    [
      "callback data of 513",
      { biz_opaque_callback_data: "c".repeat(513) },
      100,
      "biz_opaque_callback_data must be at most 512",
    ],
    ["a recipient that is no number", { to: "hello" }, 131009, "'to' is not a valid phone number"],
    [
      "id and link at once",
      only("image", { id: "1", link: "https://a.example/b" }),
      100,
      "exactly one of 'id' and 'link'",
    ],
    ["neither id nor link", only("image", { caption: "a" }), 100, "exactly one of 'id' and 'link'"],
    [
      "a link that is no address",
      only("image", { link: "ftp://a.example/b" }),
      100,
      "image['link'] is not a valid URI",
    ],
    [
      "a caption of 1025",
      only("video", { link: "https://a.example/b", caption: "c".repeat(1025) }),
      100,
      "at most 1024",
    ],
    [
      "a caption on audio",
      only("audio", { link: "https://a.example/b", caption: "a" }),
      100,
      'Unexpected key "caption"',
    ],
    [
      "a media id nobody uploaded",
      only("image", { id: "999" }),
      100,
      "not a valid whatsapp business account media attachment ID",
    ],
    [
      "a latitude off the map",
      only("location", { latitude: 91, longitude: 0 }),
      100,
      "location['latitude'] must be at most 90",
    ],
    ["a contact without a name", only("contacts", [{ phones: [] }]), 131008, "contacts[0]['name']' is mandatory"],
    ["two emoji", only("reaction", { message_id: "wamid.X", emoji: "👍👍" }), 100, "must be one emoji"],
    ["four buttons", buttons(button("a"), button("b"), button("c"), button("d")), 131009, "must be at most 3 items"],
    ["a button title of 21", buttons(button("a", "t".repeat(21))), 131009, "must be at most 20 characters"],
    ["two buttons of one id", buttons(button("a", "x"), button("a", "y")), 131009, "must have different ids"],
    [
      "eleven rows",
      listOf([
        { title: "a", rows: rows(6) },
        { title: "b", rows: rows(5, 6) },
      ]),
      131009,
      "10 rows in total",
    ],
    [
      "two sections without titles",
      listOf([{ rows: rows(1) }, { rows: rows(1, 1) }]),
      131009,
      "must each have a title",
    ],
    ["a row title of 25", listOf([{ rows: [{ id: "1", title: "t".repeat(25) }] }]), 131009, "at most 24 characters"],
    [
      "an interactive body of 1025",
      only("interactive", { type: "button", body: { text: "b".repeat(1025) }, action: { buttons: [button("a")] } }),
      131009,
      "at most 1024",
    ],
    [
      "an unknown interactive type",
      only("interactive", { type: "dance", body: { text: "b" }, action: {} }),
      131009,
      "interactive['type']",
    ],
    [
      "a template nobody made",
      only("template", { name: "nope", language: { code: "en" } }),
      132001,
      "template name (nope) does not exist in en",
    ],
    ["itself as recipient", { to: PHONE }, 131021, "Recipient cannot be sender"],
    ["a test number outside the allowed list", { to: "+1555131030" }, 131030, "not in allowed list"],
  ])("refuses %s", async (_what, message, code, sentence) => {
    const reply = await send(message);
    expect(reply.body).toMatchObject({ error: { code, type: "OAuthException", fbtrace_id: expect.any(String) } });
    expect(JSON.stringify(reply.body).replaceAll('\\"', '"')).toContain(sentence);
    expect(reply.status).toBe(code === 132001 ? 404 : 400);
    expect((await sandbox.accepted()).total).toBe(0);
    expect((await sandbox.stats()).refused).toEqual({ [code]: 1 });
  });

  it("puts details under error_data for WhatsApp's own codes, and repeats the code in the message", async () => {
    const { body } = await send({ text: undefined });
    expect(body).toMatchObject({
      error: {
        message: "(#131008) Required parameter is missing",
        error_data: { messaging_product: "whatsapp", details: "Parameter 'text' is mandatory for type 'text'" },
      },
    });
  });

  it.each([
    ["EAA-EXPIRED-1", 401, 190, 463],
    ["EAA-REVOKED-1", 401, 190, 460],
    ["EAA-INVALID-1", 401, 190, undefined],
    ["EAA-NOPERMISSION", 403, 10, undefined],
    [null, 400, 2500, undefined],
  ])("refuses the token %s with HTTP %i and code %i", async (token, status, code, subcode) => {
    const reply = await graph("POST", `/${PHONE}/messages`, textMessage(), token);
    expect(reply.status).toBe(status);
    expect(reply.body).toMatchObject({ error: { code } });
    expect(Reflect.get(Object(reply.body.error), "error_subcode")).toBe(subcode);
  });

  it.each([
    ["1555000368", 403, 368],
    ["1555131031", 403, 131031],
    ["1555131042", 400, 131042],
    ["1555133010", 400, 133010],
  ])("refuses everything the number %s sends", async (phone, status, code) => {
    const reply = await graph("POST", `/${phone}/messages`, textMessage());
    expect([reply.status, reply.body]).toMatchObject([status, { error: { code } }]);
  });

  it("knows no node that is not a number, no path and no version that Meta does not have", async () => {
    expect((await graph("GET", "/abc")).body).toMatchObject({
      error: { code: 100, error_subcode: 33, type: "GraphMethodException" },
    });
    expect((await graph("GET", `/${PHONE}/dances`)).body).toMatchObject({ error: { code: 2500 } });
    const future = await fetch(`https://graph.facebook.com/v27.0/${PHONE}`, { headers: { Authorization: "Bearer x" } });
    expect(await future.json()).toMatchObject({
      error: { code: 2500, message: expect.stringContaining("Unknown path components") },
    });
  });

  it("limits a number's sends per second when told to", async () => {
    await sandbox.settings({ throughput: 5 });
    const replies = await Promise.all(Array.from({ length: 30 }, () => send()));
    const throttled = replies.filter(({ status }) => status === 429);
    // The second may turn once while they run.
    expect(throttled.length).toBeGreaterThanOrEqual(20);
    expect(throttled[0]?.headers.get("Retry-After")).toBe("1");
    expect(throttled[0]?.body).toMatchObject({ error: { code: 130429 } });
  });
});

describe("read receipts", () => {
  it("takes them with and without the typing indicator, and refuses what is no message id", async () => {
    const read = { messaging_product: "whatsapp", status: "read", message_id: "wamid.IN" };
    expect((await graph("POST", `/${PHONE}/messages`, read)).body).toEqual({ success: true });
    const typing = { ...read, typing_indicator: { type: "text" } };
    expect((await graph("POST", `/${PHONE}/messages`, typing)).body).toEqual({ success: true });
    expect((await sandbox.reads()).data).toMatchObject([
      { phone_number_id: PHONE, message_id: "wamid.IN", typing: false },
      { message_id: "wamid.IN", typing: true },
    ]);
    const wrong = await graph("POST", `/${PHONE}/messages`, { ...read, message_id: "nonsense" });
    expect(wrong.body).toMatchObject({ error: { code: 131009 } });
    expect((await sandbox.accepted()).total).toBe(0);
  });
});

describe("numbers", () => {
  it("shows any numeric id as a number whose display number is + and the id", async () => {
    const { body } = await graph("GET", "/1234567890");
    expect(body).toMatchObject({ id: "1234567890", display_phone_number: "+1234567890", quality_rating: "GREEN" });
  });

  it("shows exactly the fields that are asked for, and refuses one that numbers do not have", async () => {
    const fields = "status,throughput{level},whatsapp_business_manager_messaging_limit";
    expect((await graph("GET", `/${PHONE}?fields=${encodeURIComponent(fields)}`)).body).toEqual({
      status: "CONNECTED",
      throughput: { level: "STANDARD" },
      whatsapp_business_manager_messaging_limit: "TIER_1K",
      id: PHONE,
    });
    const wrong = await graph("GET", `/${PHONE}?fields=shoe_size`);
    expect(wrong.body).toMatchObject({
      error: { code: 100, message: expect.stringContaining("nonexistent field (shoe_size)") },
    });
  });

  it("shows what the control API changed", async () => {
    await sandbox.number(PHONE, { quality_rating: "RED", whatsapp_business_manager_messaging_limit: "TIER_UNLIMITED" });
    const { body } = await graph("GET", `/${PHONE}?fields=quality_rating,whatsapp_business_manager_messaging_limit`);
    expect(body).toMatchObject({ quality_rating: "RED", whatsapp_business_manager_messaging_limit: "TIER_UNLIMITED" });
  });

  it("registers with a pin of six digits, keeps it, and sends nothing while deregistered", async () => {
    const register = (pin: string) => graph("POST", `/${PHONE}/register`, { messaging_product: "whatsapp", pin });
    expect((await register("12345")).body).toMatchObject({ error: { code: 100 } });
    expect((await register("123456")).body).toEqual({ success: true });
    expect((await register("654321")).body).toMatchObject({ error: { code: 133005 } });
    await graph("POST", `/${PHONE}/deregister`);
    expect((await send()).body).toMatchObject({ error: { code: 133010 } });
    await register("123456");
    expect((await send()).status).toBe(200);
  });

  it("keeps a business profile within its limits", async () => {
    const path = `/${PHONE}/whatsapp_business_profile`;
    const saved = await graph("POST", path, {
      messaging_product: "whatsapp",
      about: "Open 9 to 5",
      vertical: "RETAIL",
    });
    expect(saved.body).toEqual({ success: true });
    expect((await graph("GET", `${path}?fields=about`)).body).toEqual({
      data: [{ about: "Open 9 to 5", messaging_product: "whatsapp" }],
    });
    const long = await graph("POST", path, { messaging_product: "whatsapp", about: "a".repeat(140) });
    expect(long.body).toMatchObject({ error: { code: 100 } });
  });
});

describe("tokens and accounts", () => {
  const secret = "client_id=1000000000000001&client_secret=test-app-secret-1234567890";

  it("names the account of a token in debug_token, and lists the token's numbers under it", async () => {
    await graph("GET", `/${PHONE}`, undefined, "EAAaccount");
    const { body } = await graph("GET", "/debug_token?input_token=EAAaccount", undefined, "1|app");
    expect(body).toMatchObject({
      data: {
        is_valid: true,
        expires_at: 0,
        granular_scopes: [
          { scope: "whatsapp_business_management", target_ids: [expect.stringMatching(/^\d{15}$/)] },
          { scope: "whatsapp_business_messaging" },
        ],
      },
    });
    const account = /"target_ids":\["(\d+)"\]/.exec(JSON.stringify(body))?.[1];
    const numbers = await graph("GET", `/${account}/phone_numbers`, undefined, "EAAaccount");
    expect(numbers.body).toMatchObject({ data: [{ id: PHONE }] });
  });

  it("moves a token and its numbers to the account that a call names", async () => {
    await graph("GET", `/${PHONE}`, undefined, "EAAmoves");
    const numbers = await graph("GET", "/102290129340398/phone_numbers", undefined, "EAAmoves");
    expect(numbers.body).toMatchObject({ data: [{ id: PHONE }] });
    const { body } = await graph("GET", "/debug_token?input_token=EAAmoves", undefined, "1|app");
    expect(JSON.stringify(body)).toContain('"target_ids":["102290129340398"]');
  });

  it("exchanges a short-lived token for one of 60 days of the same account, and leaves a lasting one alone", async () => {
    const path = (token: string) =>
      `/oauth/access_token?grant_type=fb_exchange_token&${secret}&fb_exchange_token=${token}`;
    const long = (await graph("GET", path("EAASHORT1"), undefined, null)).body;
    expect(long).toMatchObject({
      access_token: expect.stringMatching(/^EAAL/),
      token_type: "bearer",
      expires_in: 5_184_000,
    });
    const accountOf = async (token: unknown) =>
      JSON.stringify((await graph("GET", `/debug_token?input_token=${token}`, undefined, "1|app")).body).match(
        /"target_ids":\["\d+"\]/,
      )?.[0];
    expect(await accountOf(long.access_token)).toBe(await accountOf("EAASHORT1"));
    expect((await graph("GET", path("EAAforever"), undefined, null)).body).toEqual({
      access_token: "EAAforever",
      token_type: "bearer",
    });
    expect(await graph("GET", path("EXPIRED"), undefined, null)).toMatchObject({
      status: 401,
      body: { error: { code: 190 } },
    });
  });

  it("gives a token for a code once, and nothing without the app's secret", async () => {
    const path = `/oauth/access_token?${secret}&code=abc`;
    expect((await graph("GET", path, undefined, null)).body).toMatchObject({ access_token: expect.any(String) });
    expect((await graph("GET", path, undefined, null)).body).toMatchObject({
      error: { code: 100, error_subcode: 36009 },
    });
    const wrong = await graph("GET", "/oauth/access_token?client_id=1&client_secret=guess&code=x", undefined, null);
    expect(wrong.body).toMatchObject({ error: { code: 1 } });
  });
});

describe("media", () => {
  const upload = (bytes: Uint8Array, type: string) => {
    const form = new FormData();
    form.set("messaging_product", "whatsapp");
    form.set("type", type);
    form.set("file", new File([bytes], "file", { type }));
    return graph("POST", `/${PHONE}/media`, form);
  };
  const bytes = new TextEncoder().encode("not really a picture");

  it("keeps an upload, describes it and serves it behind the token until the address expires", async () => {
    const { body } = await upload(bytes, "image/jpeg");
    const described = (await graph("GET", `/${body.id}`)).body;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    expect(described).toMatchObject({
      messaging_product: "whatsapp",
      id: body.id,
      mime_type: "image/jpeg",
      file_size: bytes.length,
      sha256: Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      url: expect.stringMatching(/^https:\/\/lookaside\.fbsbx\.com\/whatsapp_business\/attachments\/\?mid=/),
    });
    const url = String(described.url);
    const authorized = { headers: { Authorization: "Bearer EAAtest" } };
    const file = await fetch(url, authorized);
    expect(file.headers.get("Content-Type")).toBe("image/jpeg");
    expect(new Uint8Array(await file.arrayBuffer())).toEqual(bytes);
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url.replace(/hash=\w/, "hash=0"), authorized)).status).toBe(404);

    await sandbox.settings({ media_url_ttl: 0 });
    const expired = (await graph("GET", `/${body.id}`)).body;
    expect((await fetch(String(expired.url), authorized)).status).toBe(404);
  });

  it("can be sent once uploaded, and no more once deleted", async () => {
    const { body } = await upload(bytes, "image/jpeg");
    expect((await send(only("image", { id: body.id }))).status).toBe(200);
    expect((await graph("DELETE", `/${body.id}`)).body).toEqual({ success: true });
    expect((await send(only("image", { id: body.id }))).body).toMatchObject({ error: { code: 100 } });
  });

  it("refuses types and sizes that Meta refuses", async () => {
    expect((await upload(bytes, "image/gif")).body).toMatchObject({
      error: { code: 100, message: expect.stringContaining("image/gif") },
    });
    expect((await upload(new Uint8Array(5 * 1024 * 1024 + 1), "image/png")).body).toMatchObject({
      error: { code: 131053 },
    });
    expect((await upload(new Uint8Array(5 * 1024 * 1024), "image/png")).status).toBe(200);
  });
});

describe("templates", () => {
  const ACCOUNT = "102290129340398";
  const body = {
    type: "BODY",
    text: "Hello {{1}}, your order {{2}} is here.",
    example: { body_text: [["Ana", "A-1"]] },
  };
  const draft = (extra: Record<string, unknown> = {}) => ({
    name: "order_here",
    language: "en_US",
    category: "UTILITY",
    components: [body],
    ...extra,
  });
  const create = (extra?: Record<string, unknown>) => graph("POST", `/${ACCOUNT}/message_templates`, draft(extra));
  const text = (value: string) => ({ type: "text", text: value });
  const sendTemplate = (components: unknown[], extra: Record<string, unknown> = {}) =>
    send({
      text: undefined,
      type: "template",
      template: { name: "order_here", language: { code: "en_US" }, components },
      ...extra,
    });

  it("is pending until reviewed, and can be sent only then, with as many parameters as it has variables", async () => {
    await graph("GET", `/${ACCOUNT}/phone_numbers`);
    const created = await create();
    expect(created.body).toEqual({ id: expect.stringMatching(/^\d{16}$/), status: "PENDING", category: "UTILITY" });
    const filled = [{ type: "body", parameters: [text("Ana"), text("A-1")] }];
    expect((await sendTemplate(filled)).body).toMatchObject({ error: { code: 132001 } });

    await sandbox.review(String(created.body.id), "APPROVED");
    const sent = await sendTemplate(filled);
    expect(sent.body.messages).toMatchObject([{ message_status: "accepted" }]);
    expect((await sendTemplate([{ type: "body", parameters: [text("Ana")] }])).body).toMatchObject({
      error: {
        code: 132000,
        error_data: { details: expect.stringContaining("(1) does not match the expected number of params (2)") },
      },
    });
    expect(
      (await sendTemplate([{ type: "body", parameters: [text("Ana"), text("x".repeat(1100))] }])).body,
    ).toMatchObject({
      error: { code: 132005 },
    });
    const image = { type: "image", image: { link: "https://a.example/b.jpg" } };
    expect((await sendTemplate([{ type: "body", parameters: [text("Ana"), image] }])).body).toMatchObject({
      error: { code: 132012 },
    });

    await sandbox.review(String(created.body.id), "PAUSED");
    expect((await sendTemplate(filled)).body).toMatchObject({ error: { code: 132015 } });
  });

  it("asks for the parameter of a link button and for the picture of a header", async () => {
    await graph("GET", `/${ACCOUNT}/phone_numbers`);
    const { id } = (
      await create({
        components: [
          { type: "HEADER", format: "IMAGE", example: { header_handle: ["4::aW"] } },
          { type: "BODY", text: "Hello there" },
          {
            type: "BUTTONS",
            buttons: [{ type: "URL", text: "Track", url: "https://a.example/{{1}}", example: ["x"] }],
          },
        ],
      })
    ).body;
    await sandbox.review(String(id), "APPROVED");
    const header = { type: "header", parameters: [{ type: "image", image: { link: "https://a.example/b.jpg" } }] };
    const link = { type: "button", sub_type: "url", index: "0", parameters: [text("A-1")] };
    expect((await sendTemplate([link])).body).toMatchObject({ error: { code: 132012 } });
    expect((await sendTemplate([header])).body).toMatchObject({ error: { code: 131008 } });
    expect((await sendTemplate([header, link])).status).toBe(200);
  });

  it("matches named parameters by name", async () => {
    await graph("GET", `/${ACCOUNT}/phone_numbers`);
    const { id } = (
      await create({
        parameter_format: "NAMED",
        components: [
          {
            type: "BODY",
            text: "Hello {{first_name}}!",
            example: { body_text_named_params: [{ param_name: "first_name", example: "Ana" }] },
          },
        ],
      })
    ).body;
    await sandbox.review(String(id), "APPROVED");
    expect(
      (await sendTemplate([{ type: "body", parameters: [{ ...text("Ana"), parameter_name: "first_name" }] }])).status,
    ).toBe(200);
    expect(
      (await sendTemplate([{ type: "body", parameters: [{ ...text("Ana"), parameter_name: "last_name" }] }])).status,
    ).toBe(400);
  });

  it.each([
    ["a name with capitals", { name: "Order" }, undefined],
    ["an unknown category", { category: "FUN" }, undefined],
    ["no body", { components: [{ type: "FOOTER", text: "Bye" }] }, undefined],
    ["a variable without an example", { components: [{ type: "BODY", text: "Hello {{1}}!" }] }, 2388043],
    ["numbers with a gap", { components: [{ ...body, text: "Hello {{1}} and {{3}}!" }] }, 2388093],
    ["a variable at the end", { components: [{ ...body, text: "Hello {{1}} {{2}}" }] }, 2388299],
    ["a body of 1025", { components: [{ type: "BODY", text: "b".repeat(1025) }] }, 2388040],
    ["a footer with a variable", { components: [body, { type: "FOOTER", text: "Bye {{1}}" }] }, 2388073],
  ])("refuses %s", async (_what, extra, subcode) => {
    const reply = await create(extra);
    expect([reply.status, reply.body]).toMatchObject([400, { error: { code: 100 } }]);
    expect(Reflect.get(Object(reply.body.error), "error_subcode")).toBe(subcode);
  });

  it("lists by page, edits, deletes by name, and frees the name of an approved one only after 30 days", async () => {
    const ids: unknown[] = [];
    for (const name of ["a_one", "b_two", "c_three"]) ids.push((await create({ name })).body.id);
    expect((await create({ name: "a_one" })).body).toMatchObject({ error: { code: 100, error_subcode: 2388024 } });

    const seen: unknown[] = [];
    let after = "";
    for (let page = 0; page < 3; page++) {
      const { body: listed } = await graph("GET", `/${ACCOUNT}/message_templates?limit=2&fields=name,status${after}`);
      const data: { name: string }[] = JSON.parse(JSON.stringify(listed.data));
      seen.push(...data.map(({ name }) => name));
      const cursor = /"after":"([^"]+)"/.exec(JSON.stringify(listed))?.[1];
      if (!JSON.stringify(listed).includes('"next"')) break;
      after = `&after=${cursor}`;
    }
    expect(seen.sort()).toEqual(["a_one", "b_two", "c_three"]);

    await sandbox.review(String(ids[0]), "APPROVED");
    const edited = await graph("POST", `/${ids[0]}`, { components: [{ type: "BODY", text: "Other words" }] });
    expect(edited.body).toMatchObject({ success: true });
    expect((await graph("GET", `/${ids[0]}`)).body).toMatchObject({
      status: "PENDING",
      components: [{ text: "Other words" }],
    });

    expect((await graph("DELETE", `/${ACCOUNT}/message_templates?name=a_one`)).body).toEqual({ success: true });
    expect((await graph("GET", `/${ACCOUNT}/message_templates?name=a_one`)).body).toEqual({ data: [] });
    expect((await create({ name: "a_one" })).body).toMatchObject({ error: { error_subcode: 2388023 } });
    await graph("DELETE", `/${ACCOUNT}/message_templates?name=b_two`);
    expect((await create({ name: "b_two" })).body).toMatchObject({ status: "PENDING" });
    expect((await graph("DELETE", `/${ACCOUNT}/message_templates?name=nobody`)).status).toBe(400);
  });
});

it("counts what it accepts exactly, also when sends come at once", async () => {
  const sends = Array.from({ length: 60 }, (_, i) => send({ biz_opaque_callback_data: `message-${i % 20}.${i % 3}` }));
  const replies = await Promise.all(sends);
  const ids = replies.map(({ body }) => JSON.stringify(body.messages));
  expect(new Set(ids).size).toBe(60);
  const { total, data, counts } = await sandbox.accepted();
  expect(total).toBe(60);
  expect(data.map(({ seq }) => seq)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect(Object.keys(counts.by_message)).toHaveLength(20);
  expect(new Set(Object.values(counts.by_message))).toEqual(new Set([3]));
  expect(Object.values(counts.by_callback).reduce((sum, n) => sum + n, 0)).toBe(60);
  expect((await sandbox.accepted({ callback: "message-7" })).total).toBe(3);
});
