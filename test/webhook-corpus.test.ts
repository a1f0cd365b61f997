import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { parseMetaWebhook } from "../src/providers/meta-webhook";
import type { InboundEvent } from "../src/providers/provider";
import { parseProviderJson } from "../src/providers/provider-json";
import index from "./fixtures/webhooks/index.json";
import stored from "./fixtures/webhooks/stored.json";
import { newWorkspace } from "./support/identity";
import { expectExactCounts, inboxOf, postSigned, request } from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues } from "./support/pipeline";

/**
 * Every captured body through the whole pipeline: POST, queue, consumer, database. What each became stands in
 * fixtures/webhooks/stored.json, and besides, whatever the parser finds in a body must be found again in the database.
 */
const texts = import.meta.glob<string>("./fixtures/webhooks/*__*.json", {
  eager: true,
  query: "?raw",
  import: "default",
});
const bodies = new Map(Object.entries(texts).map(([path, text]) => [path.replace(/^.*\/|\.json$/g, ""), text]));
const namesOf = (provider: string) =>
  index.files.filter((f) => f.provider === provider).map((f) => f.file.replace(/\.json$/, ""));

function bodyOf(name: string): string {
  const text = bodies.get(name);
  if (text === undefined) throw new Error(`No body ${name}`);
  return text;
}

type Row = Record<string, unknown>;

function json(value: unknown): Row {
  return JSON.parse(String(value)) as Row;
}

/** A workspace with every number and account that the body names. */
async function homeOf(events: readonly InboundEvent[]) {
  const workspace = await newWorkspace();
  const seen = new Set<string>();
  for (const { number } of events) {
    const { providerNumberId, businessId, displayDigits } = number;
    const id = providerNumberId ?? `of-${businessId}-${displayDigits}`;
    if (seen.has(id)) continue;
    seen.add(id);
    await registerNumber(workspace, {
      provider_number_id: id,
      business_id: businessId ?? "none",
      phone_number: `+${displayDigits ?? "15550000000"}`,
    });
  }
  return workspace;
}

const tail = (id: unknown) => String(id).slice(-8);

/** One line per row that a body left, with the facts that matter of it. */
async function becameOf(workspaceId: string): Promise<string[]> {
  const inbox = inboxOf(workspaceId);
  const contacts = new Map((await inbox.contacts()).map((c) => [c.id, c]));
  const identities = await inbox.identities();
  const who = (id: unknown) => {
    const c = contacts.get(id);
    const names = identities.filter((i) => i.contact_id === id).map((i) => `${i.kind} ${String(i.value).slice(0, 40)}`);
    const consent = c?.consent_at === null ? "" : c?.opted_in === 1 ? ", opted in" : ", opted out";
    const called = [c?.name, c?.username && `@${String(c.username)}`].filter(Boolean).join(" ");
    return `${c?.kind} ${called === "" ? "nameless" : called} [${names.join("; ")}]${consent}`;
  };
  const lines = [...contacts.keys()].map((id) => `contact ${who(id)}`);
  for (const m of await inbox.messages()) {
    const content = Object.keys(json(m.content)).sort().join(" ");
    const from =
      m.direction === "inbound" ? `from ${m.from_number ?? "no number"}` : `to ${m.to_number ?? "no number"}`;
    const answers = m.reply_to === null ? "" : ` re ${tail(m.reply_to)}`;
    lines.push(`message ${m.direction} ${m.origin} ${m.type} ${m.status} ${from}${answers}: ${content}`);
  }
  for (const v of await inbox.conversations()) {
    lines.push(
      `thread of ${contacts.get(v.contact_id)?.name ?? contacts.get(v.contact_id)?.kind}: ${v.message_count} messages, ${v.unread_count} unread, "${v.last_message_preview}"`,
    );
  }
  for (const e of await inbox.references()) {
    const payload = json(e.payload);
    const says =
      e.kind === "status"
        ? ["status", "failed", "pricing"].flatMap((name) =>
            payload[name] === undefined ? [] : [name === "status" ? payload[name] : name],
          )
        : e.kind === "reaction"
          ? [payload.emoji ?? "taken back"]
          : [];
    lines.push([e.kind, "of", tail(e.target), e.actor && `by ${String(e.actor)}`, ...says].filter(Boolean).join(" "));
  }
  for (const e of await inbox.events())
    lines.push(["event", e.kind, e.field, e.reason && `(${String(e.reason)})`].filter(Boolean).join(" "));
  const numbers = await env.SHARD_0.prepare("SELECT * FROM phone_numbers WHERE workspace_id = ?1")
    .bind(workspaceId)
    .all();
  for (const n of numbers.results) {
    const facts = [
      n.tier === "STANDARD" ? null : `tier ${String(n.tier)}`,
      n.message_limit === 1000 ? null : `limit ${String(n.message_limit)}`,
      n.verified_name === "Test number" ? null : `name ${String(n.verified_name)}`,
      n.quality_rating === "GREEN" ? null : `quality ${String(n.quality_rating)}`,
    ].filter(Boolean);
    if (facts.length > 0) lines.push(`number: ${facts.join(", ")}`);
  }
  return lines.sort();
}

/** What is about an account or a person, whichever number of ours it came by. */
const ACCOUNT_KINDS = new Set<InboundEvent["kind"]>([
  "notice",
  "unknown",
  "preference",
  "contact_sync",
  "identity_change",
]);

function namesNobody({ number }: InboundEvent): boolean {
  return Object.values(number).every((name) => name === null);
}

async function unrouted(): Promise<unknown[]> {
  return (await env.DIRECTORY.prepare("SELECT raw FROM unrouted_events").all()).results.map((row) => row.raw);
}

/** Where an event of the parser's must be found again. */
async function expectKept(workspaceId: string, events: readonly InboundEvent[]): Promise<void> {
  const inbox = inboxOf(workspaceId);
  const [messages, references, kept] = [await inbox.messages(), await inbox.references(), await inbox.events()];
  for (const event of events) {
    if (namesNobody(event)) {
      expect(await unrouted()).toContain(JSON.stringify(event.raw));
      continue;
    }
    if (event.number.providerNumberId === null && !ACCOUNT_KINDS.has(event.kind)) {
      expect(kept.map((e) => e.raw)).toContain(JSON.stringify(event.raw));
      continue;
    }
    switch (event.kind) {
      case "message":
      case "echo":
        expect(messages.map((m) => m.wa_message_id)).toContain(event.message.waMessageId);
        break;
      case "reaction":
      case "edit":
      case "revoke":
        expect(references.map((e) => [e.kind, e.target])).toContainEqual([event.kind, event.target]);
        break;
      case "status": {
        const kind = event.participant === null ? "status" : "group_status";
        const waiting = references.filter((e) => e.kind === kind && e.target === event.waMessageId);
        expect(waiting.some((e) => JSON.stringify(json(e.payload)).includes(event.status))).toBe(true);
        break;
      }
      default:
        expect(kept.map((e) => e.raw)).toContain(JSON.stringify(event.raw));
    }
  }
}

describe("every body of Meta's", () => {
  it("is in the table, and nothing else is", () => {
    expect(Object.keys(stored).sort()).toEqual(namesOf("meta").sort());
    expect(bodies.size).toBe(144);
    expect(index.files).toHaveLength(144);
  });

  it.each(namesOf("meta"))("%s", async (name) => {
    const text = bodyOf(name);
    const events = parseMetaWebhook(parseProviderJson(text));
    const workspace = await homeOf(events);
    const { env: held, held: queues } = heldQueues();
    expect((await postSigned(text, { appEnv: held })).status).toBe(200);
    const jobs = (queues.get("INBOUND") ?? []).map(({ body }) => body);
    for (const attempts of [1, 2]) {
      const result = await deliver("inbound", jobs, { env: held, attempts });
      expect(result.retryBatch.retry).toBe(false);
      expect(result.retryMessages).toEqual([]);
    }
    // The numbers are free for the next body.
    await env.DIRECTORY.prepare("DELETE FROM provider_numbers WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .run();
    const table: Record<string, string[]> = stored;
    const became = await becameOf(workspace.workspaceId);
    expect(became).toEqual(table[name]);
    await expectKept(workspace.workspaceId, events);
    await expectExactCounts(workspace.workspaceId);
    const letters = await env.SHARD_0.prepare("SELECT count(*) AS n FROM dead_letters WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .first("n");
    expect(letters).toBe(0);
    expect(queues.get("BULK")).toEqual([]);
  });

  it("left only what names neither number nor account to the operator: one status of a message nobody sent", async () => {
    expect(await unrouted()).toEqual([
      '{"id":"wamid.xxx","status":"delivered","timestamp":"1234567890","recipient_id":"1234567890"}',
    ]);
  });
});

describe("every body of Infobip's", () => {
  // What they become at a connection's own address, with its secret, is in infobip.test.ts.
  it.each(namesOf("infobip"))("%s is refused: it is not signed", async (name) => {
    const { env: held, held: queues } = heldQueues();
    const response = await request("POST", "/webhook", { body: bodyOf(name) }, held);
    expect(response.status).toBe(401);
    expect(queues.get("INBOUND")).toEqual([]);
  });
});

it("leaves out no provider", () => {
  expect(namesOf("meta").length + namesOf("infobip").length).toBe(144);
});
