import { describe, expect, it } from "vitest";
import { numbersOf, parseMetaWebhook } from "../src/providers/meta-webhook";
import { splitMetaWebhook } from "../src/providers/meta-webhook-split";
import type { InboundEvent, Person } from "../src/providers/provider";
import { parseProviderJson } from "../src/providers/provider-json";
import became from "./fixtures/webhooks/became.json";
import index from "./fixtures/webhooks/index.json";

const texts = import.meta.glob<string>("./fixtures/webhooks/*__*.json", {
  eager: true,
  query: "?raw",
  import: "default",
});

/** Every body by its name, as the text of one POST. */
const bodies = new Map(Object.entries(texts).map(([path, text]) => [path.replace(/^.*\/|\.json$/g, ""), text]));
const metaNames = index.files.filter((f) => f.provider === "meta").map((f) => f.file.replace(/\.json$/, ""));

function textOfBody(name: string): string {
  const text = bodies.get(name);
  if (text === undefined) throw new Error(`No body ${name}`);
  return text;
}

function parseText(text: string): InboundEvent[] {
  return parseMetaWebhook(parseProviderJson(text));
}

function member(value: unknown, ...path: (string | number)[]): unknown {
  return path.reduce<unknown>(
    (current, key) => (typeof current === "object" && current !== null ? Reflect.get(current, key) : undefined),
    value,
  );
}

function who(person: Person | null): string {
  if (!person) return "nobody";
  const ids = [person.waId, person.userId, person.parentUserId].filter((id) => id !== null).join("/");
  const names = [person.username && `@${person.username}`, person.name].filter(Boolean).join(" ");
  return names === "" ? ids : `${ids} (${names})`;
}

/** What a message says, and what it says beside it. */
function gist(content: Record<string, unknown>): string {
  const said = [
    content.body,
    content.caption,
    content.text,
    content.payload,
    member(content, "button_reply", "id"),
    member(content, "list_reply", "id"),
    member(content, "nfm_reply", "response_json"),
    content.name,
    content.catalog_id,
    member(content, "contacts", 0, "phones", 0, "phone"),
    member(content, "referral", "source_id"),
    member(content, "context", "referred_product", "product_retailer_id"),
    member(content, "context", "forwarded") && "forwarded",
    member(content, "errors", 0, "code"),
  ];
  return said.filter((part) => part !== undefined && part !== "").join(" · ");
}

const NOTICE_FACTS = [
  "value.event",
  "value.decision",
  "value.alert_info.alert_type",
  "value.new_quality_score",
  "value.new_category",
  "value.message_template_id",
  "value.type",
  "value.flow_id",
  "value.username",
  "type",
  "group_id",
  "event",
  "code",
  "errors.0.code",
  "metadata.progress",
];

/** One line per event: its kind and the facts that matter of it. */
function told(event: InboundEvent): string {
  switch (event.kind) {
    case "message":
    case "echo": {
      const { message, groupId } = event;
      const parts = [
        event.kind,
        event.origin,
        message.type,
        who(event.kind === "message" ? event.sender : event.recipient),
        groupId && `in ${groupId.slice(-8)}`,
        message.media && `media ${message.media.id} ${message.media.mimeType}`,
        message.replyTo && `re ${message.replyTo.slice(-8)}`,
        event.kind === "echo" && event.status,
      ];
      return `${parts.filter(Boolean).join(" ")}: ${gist(message.content)}`;
    }
    case "reaction":
      return `reaction ${event.emoji} of ${who(event.sender)} on ${event.target.slice(-8)}`;
    case "edit":
    case "revoke":
      return `${event.kind} of ${who(event.sender)} on ${event.target.slice(-8)}`;
    case "status": {
      const parts = [
        `status ${event.status} of ${event.waMessageId.slice(-8)} for ${who(event.recipient)}`,
        event.participant && `participant ${event.participant}`,
        event.error && `error ${event.error.code}`,
        event.pricing && `pricing ${event.pricing.category ?? "none"}`,
        member(event.pricing, "conversation", "origin", "type"),
      ];
      return parts.filter(Boolean).join(", ");
    }
    case "identity_change":
      return `identity_change ${who(event.previous)} -> ${who(event.current)}`;
    case "preference":
      return `preference ${event.marketing} of ${who(event.sender)}: ${event.detail}`;
    case "contact_sync":
      return `contact_sync ${event.action} ${who(event.person)}`;
    case "notice": {
      const facts = NOTICE_FACTS.map((path) => member(event.raw, ...path.split("."))).filter((fact) => fact != null);
      const update = event.numberUpdate ? ` ${JSON.stringify(event.numberUpdate)}` : "";
      return `notice ${[event.topic, ...facts].join(" ")}${update}`;
    }
    case "unknown":
      return `unknown ${event.field}: ${event.reason}`;
  }
}

/** What every Meta-shaped body became: written down and checked by hand against the body, item by item. */
const TABLE: Record<string, string[]> = became;

/** Items of a body, counted without the parser: elements of the lists of a value, or the change itself. */
function countItems(body: unknown): number {
  const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
  const names = [
    "messages",
    "message_echoes",
    "statuses",
    "user_preferences",
    "user_id_update",
    "state_sync",
    "groups",
    "calls",
  ];
  return list(member(body, "entry"))
    .flatMap((entry) => list(member(entry, "changes")))
    .map((change) => {
      const value = member(change, "value");
      const field = member(change, "field");
      const errors = field === "messages" ? list(member(value, "errors")).length : 0;
      const chunks = list(member(value, "history"));
      const threads = chunks.flatMap((chunk) => list(member(chunk, "threads")));
      const inThreads = threads.flatMap((thread) => list(member(thread, "messages"))).length;
      const listed = names.reduce((sum, name) => sum + list(member(value, name)).length, 0);
      return Math.max(1, listed + errors + chunks.length + inThreads);
    })
    .reduce((a, b) => a + b, 0);
}

/** Every text and number somewhere inside a value. */
function leaves(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return value === null ? [] : [String(value)];
  return Object.values(value).flatMap(leaves);
}

function withoutPlace({ position: _position, ...event }: InboundEvent) {
  return event;
}

/** All Meta bodies as one POST, as Meta batches them. */
function together(names: string[]): string {
  const entries = names.flatMap((name) => member(parseProviderJson(textOfBody(name)), "entry"));
  return JSON.stringify({ object: "whatsapp_business_account", entry: entries });
}

describe("the shipped webhook bodies", () => {
  it("are all 144 here, and the table names each of Meta's", () => {
    expect(bodies.size).toBe(144);
    expect(index.files.map((f) => f.file.replace(/\.json$/, "")).sort()).toEqual([...bodies.keys()].sort());
    expect(Object.keys(TABLE).sort()).toEqual([...metaNames].sort());
  });

  it.each(Object.entries(TABLE))("%s", (name, expected) => {
    const body = parseProviderJson(textOfBody(name));
    const events = parseMetaWebhook(body);
    expect(events.map(told)).toEqual(expected);
    expect(events).toHaveLength(countItems(body));
    expect(events.map((event) => event.position)).toEqual(events.map((_, position) => position));
  });

  it("lose nothing a message, an echo or a status says", () => {
    const kinds = new Set(["message", "echo", "reaction", "edit", "revoke", "status", "preference"]);
    // Said by the kind of event, by our status names, or by the group the message went to.
    const elsewhere = new Set([
      "type",
      "timestamp",
      "status",
      "history_context",
      "recipient_type",
      "action",
      "value",
      "category",
      "from",
    ]);
    for (const name of metaNames) {
      for (const event of parseText(textOfBody(name)).filter((e) => kinds.has(e.kind))) {
        const { raw, ...kept } = event;
        const keptLeaves = new Set(leaves(kept));
        const said = Object.entries(raw as object).filter(
          ([key]) => !elsewhere.has(key) && !(key === "recipient_id" && member(raw, "recipient_type") === "group"),
        );
        const missing = said.flatMap(([key, value]) =>
          leaves(key === "context" ? { ...(value as object), from: null } : value).filter(
            (leaf) => !keptLeaves.has(leaf),
          ),
        );
        const errors = leaves(member(raw, "errors"));
        // Of a status's errors the code, title and details are kept.
        expect(
          missing.filter((leaf) => event.kind !== "status" || !errors.includes(leaf)),
          name,
        ).toEqual([]);
      }
    }
  });

  it("of Infobip are no webhook of Meta's: one unknown each, with the whole body", () => {
    const names = [...bodies.keys()].filter((name) => !metaNames.includes(name));
    expect(names).toHaveLength(37);
    for (const name of names) {
      const body = parseProviderJson(textOfBody(name));
      expect(parseMetaWebhook(body), name).toEqual([
        expect.objectContaining({ kind: "unknown", field: null, raw: body, position: 0 }),
      ]);
    }
  });

  it("mean together what they mean alone", () => {
    const alone = metaNames.flatMap((name) => parseText(textOfBody(name)).map(withoutPlace));
    const events = parseText(together(metaNames));
    expect(events.map(withoutPlace)).toEqual(alone);
    expect(events.map((event) => event.position)).toEqual(alone.map((_, position) => position));
  });
});

describe("a broken item", () => {
  const LISTS = ["messages", "message_echoes", "statuses", "user_preferences", "state_sync"];
  const BROKEN = [null, 7, "text", [], {}, { id: {} }, { type: "__proto__" }, { id: "x", timestamp: "soon" }];

  /** A fresh body, with every list of items in it. */
  function listsOf(name: string): { body: unknown; lists: unknown[][] } {
    const body = parseProviderJson(textOfBody(name));
    const changes = [member(body, "entry")].flat().flatMap((entry) => member(entry, "changes") ?? []);
    const lists = changes.flatMap((change) => LISTS.map((list) => member(change, "value", list)));
    return { body, lists: lists.filter((list): list is unknown[] => Array.isArray(list)) };
  }

  it("becomes unknown with its raw JSON, and its neighbours are what they were", () => {
    let cases = 0;
    for (const name of metaNames) {
      const before = parseText(textOfBody(name));
      const { lists } = listsOf(name);
      for (const [at, list] of lists.entries()) {
        for (const place of list.keys()) {
          for (const broken of BROKEN) {
            const changed = listsOf(name);
            const item = changed.lists[at]?.[place];
            const position = parseMetaWebhook(changed.body).findIndex((event) => event.raw === item);
            changed.lists[at]?.splice(place, 1, broken);
            const after = parseMetaWebhook(changed.body);
            expect(after[position], name).toMatchObject({ kind: "unknown", raw: broken, position });
            expect(after.toSpliced(position, 1)).toEqual(before.toSpliced(position, 1));
            cases += 1;
          }
        }
      }
    }
    expect(cases).toBeGreaterThan(500);
  });

  it("may be missing: the others stay, in their order", () => {
    for (const name of metaNames) {
      for (const [at, list] of listsOf(name).lists.entries()) {
        if (list.length < 2) continue;
        for (const place of list.keys()) {
          const changed = listsOf(name);
          const events = parseMetaWebhook(changed.body);
          const item = changed.lists[at]?.splice(place, 1)[0];
          expect(parseMetaWebhook(changed.body).map(withoutPlace)).toEqual(
            events.filter((event) => event.raw !== item).map(withoutPlace),
          );
        }
      }
    }
  });

  it.each([
    ["no object", "body"],
    ["nothing", null],
    ["a list", []],
    ["another product's", { object: "instagram", entry: [{ id: "1", messaging: [] }] }],
    ["an entry that is no list", { entry: {} }],
  ])("body of %s is kept as one unknown", (_, body) => {
    expect(parseMetaWebhook(body)).toEqual([expect.objectContaining({ kind: "unknown", raw: body, field: null })]);
  });

  it.each([
    ["an entry without changes", [{ id: "1" }], { id: "1" }],
    ["an entry that is no object", ["x"], "x"],
    ["a change that is no object", [{ id: "1", changes: [5] }], 5],
    ["a change without value", [{ id: "1", changes: [{ field: "messages" }] }], { field: "messages" }],
  ])("envelope, %s, harms no other entry", (_, entry, raw) => {
    const good = member(parseProviderJson(textOfBody("fb-openapi__text_message")), "entry", 0);
    const events = parseMetaWebhook({ entry: [...entry, good] });
    expect(events[0]).toMatchObject({ kind: "unknown", raw });
    expect(events[1]).toMatchObject({ kind: "message", position: 1 });
    expect(events).toHaveLength(2);
  });
});

describe("kinds that no shipped body shows", () => {
  const metadata = { display_phone_number: "1 555-078-3881", phone_number_id: "106540352242922" };
  const base = { from: "16505551234", id: "wamid.A", timestamp: "1750000000" };

  function parseValue(value: Record<string, unknown>, field: string | undefined = "messages"): InboundEvent[] {
    const change = { field, value: { messaging_product: "whatsapp", metadata, ...value } };
    return parseMetaWebhook({
      object: "whatsapp_business_account",
      entry: [{ id: "102", time: 1750000001, changes: [change] }],
    });
  }

  it("an edited message names what it replaces and holds the new content whole", () => {
    const edit = {
      original_message_id: "wamid.OLD",
      message: {
        context: { id: "wamid.OLD" },
        type: "image",
        image: { id: "77", caption: "New", mime_type: "image/png" },
      },
    };
    expect(parseValue({ messages: [{ ...base, type: "edit", edit }] })).toEqual([
      expect.objectContaining({
        kind: "edit",
        byUs: false,
        target: "wamid.OLD",
        waMessageId: "wamid.A",
        type: "image",
        content: { id: "77", caption: "New", mime_type: "image/png" },
        at: 1_750_000_000_000,
      }),
    ]);
  });

  it("a revoked message, by the person or by our phone's app", () => {
    const revoke = { original_message_id: "wamid.OLD" };
    const [theirs] = parseValue({ messages: [{ ...base, type: "revoke", revoke }] });
    expect(theirs).toMatchObject({ kind: "revoke", byUs: false, target: "wamid.OLD", sender: { waId: "16505551234" } });
    const echo = {
      from: "15550783881",
      to: "16505551234",
      id: "wamid.B",
      timestamp: "1750000000",
      type: "revoke",
      revoke,
    };
    const [ours] = parseValue({ message_echoes: [echo] }, "smb_message_echoes");
    expect(ours).toMatchObject({ kind: "revoke", byUs: true, target: "wamid.OLD", sender: { waId: "16505551234" } });
  });

  it("echoes of our phone's app: messages, reactions and edits go to the person they were sent to", () => {
    const to = { to: "16505551234", to_user_id: "US.13491208655302741918", from: "15550783881", timestamp: 1750000000 };
    const events = parseValue(
      {
        contacts: [{ profile: { name: "Ana", username: "ana" }, user_id: "US.13491208655302741918" }],
        message_echoes: [
          { ...to, id: "wamid.1", type: "text", text: { body: "Hi" } },
          { ...to, id: "wamid.2", type: "reaction", reaction: { message_id: "wamid.X", emoji: "" } },
          {
            ...to,
            id: "wamid.3",
            type: "edit",
            edit: { message: { context: { id: "wamid.1" }, type: "text", text: { body: "Hello" } } },
          },
        ],
      },
      "smb_message_echoes",
    );
    const person = {
      waId: "16505551234",
      userId: "US.13491208655302741918",
      parentUserId: null,
      username: "ana",
      name: "Ana",
    };
    expect(events).toEqual([
      expect.objectContaining({ kind: "echo", origin: "echo", recipient: person, status: null }),
      expect.objectContaining({ kind: "reaction", byUs: true, sender: person, target: "wamid.X", emoji: null }),
      expect.objectContaining({
        kind: "edit",
        byUs: true,
        sender: person,
        target: "wamid.1",
        content: { body: "Hello" },
      }),
    ]);
  });

  it("a voice note under its old name is audio", () => {
    expect(parseValue({ messages: [{ ...base, type: "voice", voice: { id: "9", mime_type: "audio/ogg" } }] })).toEqual([
      expect.objectContaining({
        message: expect.objectContaining({
          type: "audio",
          content: { id: "9", mime_type: "audio/ogg", voice: true },
          media: { id: "9", url: null, mimeType: "audio/ogg", sha256: null, fileName: null },
        }),
      }),
    ]);
  });

  it("media that bring their own address keep it", () => {
    const image = { id: "9", mime_type: "image/png", sha256: "s", url: "https://lookaside.fbsbx.com/x?mid=9" };
    const [event] = parseValue({ messages: [{ ...base, type: "image", image }] });
    expect(event).toMatchObject({
      message: { media: { url: "https://lookaside.fbsbx.com/x?mid=9", sha256: "s" }, content: image },
    });
  });

  it("a message type nobody knows yet is a message, with all it says", () => {
    const [event] = parseValue({
      messages: [{ ...base, type: "poll", poll: { question: "?" }, novelty: [1, { a: "b" }] }],
    });
    expect(event).toMatchObject({
      kind: "message",
      message: { type: "poll", content: { question: "?", novelty: [1, { a: "b" }] } },
    });
  });

  it("names from another world do no harm", () => {
    for (const type of ["__proto__", "constructor", "toString"]) {
      const [event] = parseValue({ messages: [{ ...base, type }], statuses: [] });
      expect(event?.kind === "message" && event.message).toEqual(expect.objectContaining({ type, content: {} }));
      expect(parseValue({ statuses: [{ id: "wamid.A", status: type, timestamp: "1" }] })).toMatchObject([
        { kind: "unknown" },
      ]);
      expect(parseValue({ event: type }, type)).toMatchObject([{ kind: "unknown" }]);
    }
  });

  it("contacts are matched by number or user id, never by place", () => {
    const events = parseValue({
      contacts: [
        { profile: { name: "Second" }, wa_id: "222", user_id: "US.2" },
        { profile: { name: "First" }, wa_id: "111" },
        { profile: { name: "Third", username: "third" }, user_id: "US.3" },
      ],
      messages: [
        { id: "a", from: "111", timestamp: "1", type: "text", text: { body: "1" } },
        { id: "b", from: "222", timestamp: "1", type: "text", text: { body: "2" } },
        { id: "c", from_user_id: "US.3", timestamp: "1", type: "text", text: { body: "3" } },
        { id: "d", from: "999", timestamp: "1", type: "text", text: { body: "4" } },
        { id: "e", timestamp: "1", type: "text", text: { body: "5" } },
      ],
    });
    expect(events.map((event) => (event.kind === "message" ? who(event.sender) : `${event.kind}`))).toEqual([
      "111 (First)",
      "222/US.2 (Second)",
      "US.3 (@third Third)",
      "999",
      "unknown",
    ]);
  });

  it("our callback id comes back, and a played voice note is read", () => {
    const status = { id: "wamid.A", status: "played", timestamp: "1750000000", biz_opaque_callback_data: "m1.2" };
    expect(parseValue({ statuses: [status] })).toMatchObject([{ kind: "status", status: "read", callbackId: "m1.2" }]);
  });

  it("statuses of calls and of deleted messages are notices; a status nobody knows is unknown", () => {
    const statuses = [
      { id: "wacid.1", type: "call", status: "RINGING", timestamp: "1" },
      { id: "wamid.A", status: "deleted", timestamp: "1" },
      { id: "wamid.A", status: "teleported", timestamp: "1" },
    ];
    expect(parseValue({ statuses }).map(told)).toEqual([
      "notice call call",
      "notice other",
      "unknown messages: The status teleported is not known",
    ]);
  });

  it.each(["message_deliveries", "message_reads"])("the field %s holds statuses too", (field) => {
    const statuses = [{ id: "wamid.A", status: "read", timestamp: "1" }];
    expect(parseValue({ statuses }, field)).toMatchObject([{ kind: "status", status: "read" }]);
  });

  it("a missing field means messages", () => {
    const change = { value: { metadata, statuses: [{ id: "wamid.A", status: "read", timestamp: "1" }] } };
    expect(parseMetaWebhook({ entry: [{ changes: [change] }] })).toMatchObject([{ kind: "status" }]);
  });

  it("members of a value that nobody knows are kept beside its items", () => {
    const message = { ...base, type: "text", text: { body: "Hi" } };
    expect(parseValue({ messages: [message], novelties: [{ a: 1 }], statuses: { id: "no list" } })).toMatchObject([
      { kind: "message" },
      { kind: "unknown", raw: { novelties: [{ a: 1 }], statuses: { id: "no list" } } },
    ]);
  });

  it("errors of a flow belong to its notice, not to our messages", () => {
    const value = { event: "ENDPOINT_ERROR_RATE", flow_id: "1", errors: [{ error_type: "X" }] };
    expect(parseValue(value, "flows")).toMatchObject([{ kind: "notice", topic: "flow" }]);
  });

  it("messages that another app is answering act on nothing", () => {
    const value = { messages: [{ ...base, type: "text", text: { body: "STOP" } }] };
    expect(parseValue(value, "standby")).toMatchObject([{ kind: "notice", topic: "handover", raw: { value } }]);
  });

  it("a changed identity key is noted, and changes nobody's name", () => {
    const system = { type: "customer_identity_changed", body: "…", customer: "16505551234", identity: "hash" };
    expect(parseValue({ messages: [{ ...base, type: "system", system }] })).toMatchObject([
      { kind: "notice", topic: "identity_check" },
    ]);
  });

  it("an opt-out without a time of its own has its entry's, else the time it was received", () => {
    const value = { user_preferences: [{ wa_id: "1", value: "stop", category: "marketing_messages" }] };
    expect(parseValue(value, "user_preferences")).toMatchObject([{ kind: "preference", at: 1_750_000_001_000 }]);
    const body = { entry: [{ id: "1", changes: [{ field: "user_preferences", value }] }] };
    expect(parseMetaWebhook(body, { receivedAt: 42 })).toMatchObject([{ kind: "preference", at: 42 }]);
  });

  it("who signs up or resumes wants marketing again; other preferences are kept as unknown", () => {
    const preference = (more: Record<string, unknown>) =>
      parseValue({ user_preferences: [{ wa_id: "1", timestamp: 1750000000, ...more }] }, "user_preferences")[0];
    for (const value of ["resume", "signup"]) {
      expect(preference({ value, category: "marketing_messages" })).toMatchObject({
        kind: "preference",
        marketing: "resume",
      });
    }
    expect(preference({ value: "stop", category: "weather_reports" })).toMatchObject({ kind: "unknown" });
    expect(preference({ value: "perhaps" })).toMatchObject({ kind: "unknown" });
  });

  it("media of a history come under the field history, from either side", () => {
    const image = { id: "9", mime_type: "image/png" };
    const events = parseValue(
      {
        messages: [
          { id: "wamid.1", from: "15550783881", to: "16505551234", timestamp: "1", type: "image", image },
          { id: "wamid.2", from: "16505551234", timestamp: "1", type: "image", image },
        ],
      },
      "history",
    );
    expect(events).toMatchObject([
      { kind: "echo", origin: "history", recipient: { waId: "16505551234" } },
      { kind: "message", origin: "history", sender: { waId: "16505551234" } },
    ]);
  });

  it("long ids keep their digits, short ones and fractions stay numbers", () => {
    const text =
      '{"id":12345678901234567890,"n":-9007199254740993,"s":"12345678901234567890","f":0.12500000000000000000,"i":7,"e":1e30}';
    expect(parseProviderJson(text)).toEqual({
      id: "12345678901234567890",
      n: "-9007199254740993",
      s: "12345678901234567890",
      f: 0.125,
      i: 7,
      e: 1e30,
    });
    expect(() => parseProviderJson("{")).toThrow(SyntaxError);
    expect(() => parseProviderJson('{"id":12345678901234567890')).toThrow(SyntaxError);
  });

  it("names each number once", () => {
    const events = parseText(
      textOfBody("gokapso__normalize_2_account_alerts_account_review_update_account_update_accoun"),
    );
    expect(numbersOf(events)).toEqual([
      { providerNumberId: null, businessId: "WABA_ID", displayDigits: null },
      { providerNumberId: "1", businessId: "WABA_ID", displayDigits: null },
      { providerNumberId: null, businessId: "WABA_ID", displayDigits: "123" },
    ]);
  });
});

describe("splitting", () => {
  function bytes(text: string): number {
    return new TextEncoder().encode(text).byteLength;
  }

  it("leaves a small body as the very text it was, whatever it is", () => {
    for (const text of [...bodies.values(), "no json", ""]) {
      expect(splitMetaWebhook(text, 60_000)).toEqual([{ text, oversized: false, firstPosition: 0 }]);
    }
  });

  it.each([60_000, 5000, 1500, 700, 50])("parts of %i bytes, parsed, are what the whole is", (max) => {
    const whole = together([...metaNames, ...metaNames.toReversed()]);
    const parts = splitMetaWebhook(whole, max);
    const parsed = parts.map((part) => ({
      part,
      events: parseMetaWebhook(JSON.parse(part.text), { firstPosition: part.firstPosition }),
    }));
    expect(parsed.flatMap(({ events }) => events)).toEqual(parseText(whole));
    for (const { part, events } of parsed) {
      expect(events.length).toBeGreaterThan(0);
      if (part.oversized) expect(events).toHaveLength(1);
      expect(part.oversized).toBe(bytes(part.text) > max);
    }
    expect(parts.length).toBeGreaterThan(1);
  });

  it("holds at every size, for every shape", () => {
    const chunk = { metadata: { progress: 1 }, threads: "none" };
    const thread = {
      id: "16505551234",
      messages: [{ id: "w", from: "1", timestamp: "1", type: "text", text: { body: "Hi" } }],
    };
    const history = [
      chunk,
      { metadata: { progress: 2 }, threads: [thread, "broken", { id: "2" }, thread] },
      7,
      { threads: [thread] },
    ];
    const odd = [
      { id: "9", changes: [{ field: "history", value: { history } }, null, { field: "x" }] },
      "broken",
      { id: "8" },
    ];
    const entries = [
      ...odd,
      member(
        parseProviderJson(together(metaNames.filter((name) => /gokapso__normalize_1|_460|history/.test(name)))),
        "entry",
      ),
    ].flat();
    const whole = JSON.stringify({ entry: entries });
    const events = parseText(whole);
    expect(events.length).toBeGreaterThan(25);
    for (let max = 60; max < 2000; max += 7) {
      const parts = splitMetaWebhook(whole, max);
      const parsed = parts.map((part) =>
        parseMetaWebhook(JSON.parse(part.text), { firstPosition: part.firstPosition }),
      );
      expect(parsed.flat(), `${max} bytes`).toEqual(events);
      for (const [place, part] of parts.entries()) {
        expect(part.oversized && parsed[place]?.length !== 1, `${max} bytes`).toBe(false);
      }
    }
  });

  it("gives a part only the contacts its messages need", () => {
    const contacts = Array.from({ length: 50 }, (_, i) => ({
      profile: { name: `Person ${i}` },
      wa_id: `1650555${1000 + i}`,
    }));
    const messages = contacts.map(({ wa_id }, i) => ({
      id: `wamid.${i}`,
      from: wa_id,
      timestamp: "1",
      type: "text",
      text: { body: "Hi" },
    }));
    const body = { entry: [{ id: "1", changes: [{ field: "messages", value: { contacts, messages } }] }] };
    const parts = splitMetaWebhook(JSON.stringify(body), 1000);
    expect(parts.length).toBeGreaterThan(5);
    for (const part of parts) {
      expect(part.oversized).toBe(false);
      const value = member(JSON.parse(part.text), "entry", 0, "changes", 0, "value");
      const senders = [member(value, "messages")].flat().map((message) => member(message, "from"));
      expect([member(value, "contacts")].flat().map((contact) => member(contact, "wa_id"))).toEqual(senders);
    }
  });

  it("fills its parts: 1,000 statuses need no more of them than their bytes", () => {
    const statuses = Array.from({ length: 1000 }, (_, i) => ({
      id: `wamid.${i}`,
      status: "delivered",
      timestamp: "1750000000",
      recipient_id: "16505551234",
    }));
    const text = JSON.stringify({ entry: [{ id: "1", changes: [{ field: "messages", value: { statuses } }] }] });
    const parts = splitMetaWebhook(text, 60_000);
    expect(parts.length).toBeLessThanOrEqual(Math.ceil((bytes(text) * 1.1) / 60_000));
    expect(parts.flatMap((part) => parseText(part.text))).toHaveLength(1000);
  });

  it("sets aside the one item that is too large, and only it", () => {
    const large = { id: "wamid.L", from: "1", timestamp: "1", type: "text", text: { body: "ü".repeat(40_000) } };
    const small = { id: "wamid.S", from: "1", timestamp: "1", type: "text", text: { body: "Hi" } };
    const value = { messages: [small, large, small] };
    const parts = splitMetaWebhook(
      JSON.stringify({ entry: [{ id: "1", changes: [{ field: "messages", value }] }] }),
      60_000,
    );
    expect(parts.map((part) => part.oversized)).toEqual([false, true, false]);
    expect(parts.map((part) => part.firstPosition)).toEqual([0, 1, 2]);
  });

  it("keeps a large body that is no webhook whole, marked oversized", () => {
    for (const text of ["x".repeat(2000), JSON.stringify({ results: ["x".repeat(2000)] })]) {
      expect(splitMetaWebhook(text, 1000)).toEqual([{ text, oversized: true, firstPosition: 0 }]);
    }
  });
});
