import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { WebhookJob } from "../src/inbound/jobs";
import type { PhoneNumber } from "../src/phone-numbers/service";
import { bucketDump, contactOf, dumpOf, order, runToEnd, soon } from "./support/erasure";
import { newWorkspace } from "./support/identity";
import { about, ago, changedNumber, contact, digits, expectExactCounts, inboxOf, message, says } from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, fireCron, heldQueues } from "./support/pipeline";
import { webhookJob } from "./support/webhooks";

const DAY = 86_400_000;

function packedId(wa: string): string {
  return `wamid.${btoa(`\x1c\x18\x0d${wa}\x15\x02\x00\x12\x18\x143EB0${crypto.randomUUID().slice(0, 8)}`)}`;
}

interface Known {
  wa: string;
  user: string;
  name: string;
}

function preference(wa: string, name: string, at: number | null) {
  const said = {
    wa_id: wa,
    detail: "Stop",
    category: "marketing_messages",
    value: "stop",
    ...(at === null ? {} : { timestamp: at / 1000 }),
  };
  return { contacts: [contact({ wa, name })], user_preferences: [said] };
}

/** Everything a provider can say of somebody, each as the queue's message. */
function everything(number: PhoneNumber, { wa, user, name }: Known, other: string): WebhookJob[] {
  const [first, second] = [packedId(wa), packedId(wa)];
  const group = `120363${digits()}`;
  const item = (said: object) => about(number, { contacts: [contact({ wa, name })], messages: [said] });
  return [
    says(number, { wa, user, name }, { id: first, text: { body: "the secret cake" } }),
    // The same person by one name only.
    about(number, { messages: [message({ user }, { text: { body: "cake by id alone" } })] }),
    item(
      message(
        { wa },
        { id: second, type: "image", image: { id: digits(), mime_type: "image/png", caption: "cake photo" } },
      ),
    ),
    item(message({ wa }, { type: "reaction", reaction: { message_id: first, emoji: "🍰" } })),
    item(
      message(
        { wa },
        {
          type: "edit",
          edit: { original_message_id: first, message: { type: "text", text: { body: "edited cake" } } },
        },
      ),
    ),
    item(message({ wa }, { type: "revoke", revoke: { original_message_id: second } })),
    // In a group, theirs and what another said of theirs.
    item(message({ wa }, { id: packedId(wa), group_id: group, text: { body: "cake for the group" } })),
    about(number, {
      contacts: [contact({ wa: other, name: "Olga Other" })],
      messages: [
        message({ wa: other }, { group_id: group, type: "reaction", reaction: { message_id: first, emoji: "👀" } }),
      ],
    }),
    about(
      number,
      {
        message_echoes: [
          {
            from: "1",
            to: wa,
            id: packedId(wa),
            timestamp: String(ago(0) / 1000),
            type: "text",
            text: { body: "echo of cake" },
          },
        ],
      },
      "smb_message_echoes",
    ),
    about(number, preference(wa, name, ago(1)), "user_preferences"),
    // Without a time: dated by its arrival, which is a new one when it comes again.
    about(number, preference(wa, name, null), "user_preferences"),
    about(
      number,
      {
        state_sync: [
          {
            type: "contact",
            contact: { full_name: name, first_name: name, phone_number: wa },
            action: "add",
            metadata: { timestamp: String(ago(1) / 1000) },
          },
        ],
      },
      "smb_app_state_sync",
    ),
    changedNumber(number, `${wa.slice(0, -2)}00`, wa, ago(2)),
    about(number, {
      statuses: [{ id: packedId(wa), status: "read", timestamp: String(ago(0) / 1000), recipient_id: wa }],
    }),
    about(number, { something: { wa_id: wa, said: `${name} again` } }, "new_field"),
  ].map(webhookJob);
}

async function take(jobs: readonly unknown[], attempts = 1, queue = "inbound"): Promise<void> {
  const { env: held } = heldQueues();
  // Files are not fetched beside it.
  const result = await deliver(queue, jobs, { attempts, env: { ...held, MEDIA_JOBS: held.BULK } });
  expect(result.retryBatch.retry).toBe(false);
  expect(result.retryMessages).toEqual([]);
}

function person(): Known {
  const wa = digits();
  return { wa, user: `US.${wa}9`, name: "Zebulon Quirkwell" };
}

async function expectNothingOf({ wa, user, name }: Known, workspaceId: string): Promise<void> {
  const dump = await dumpOf(env.SHARD_0, workspaceId);
  for (const trace of [wa, user, name, "cake", "🍰"]) expect(dump).not.toContain(trace);
  for (const id of dump.match(/wamid\.[A-Za-z0-9+/=]+/g) ?? []) {
    let plain = id;
    try {
      plain = atob(id.slice("wamid.".length));
    } catch {}
    expect(plain).not.toContain(wa);
  }
}

describe("an erased person", () => {
  it("does not come back when old webhooks come again, are tried again or replayed", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const ws = workspace.workspaceId;
    const elsewhere = await newWorkspace();
    const otherNumber = await registerNumber(elsewhere);
    const who = person();
    const other = digits();
    const jobs = everything(number, who, other);
    await take(jobs);
    await take(everything(otherNumber, who, other));
    await take([webhookJob(says(number, { wa: other, name: "Olga Other" }, "Nothing to hide"))]);
    const contactId = await contactOf(ws, who.wa);
    for (const trace of [who.name, "cake photo", "cake for the group", "edited cake", "echo of cake", "🍰"])
      expect(await dumpOf(env.SHARD_0, ws)).toContain(trace);
    const untouched = await dumpOf(env.SHARD_0, elsewhere.workspaceId);
    await order(workspace, contactId);
    // Work that was still in the queue, before the erasure has run.
    await take(jobs);
    expect(await contactOf(ws, who.wa).catch(() => null)).toBeNull();
    expect(await runToEnd(workspace, contactId)).toMatchObject({ status: "completed" });
    await expectNothingOf(who, ws);
    const before = await inboxOf(ws).totals();

    await take(jobs);
    await take(jobs, 2);
    await take(jobs.map((job) => ({ ...job, receivedAt: Date.now() + 3_600_000 })));
    await expectNothingOf(who, ws);
    expect(await inboxOf(ws).totals()).toEqual(before);

    // Given up now, and replayed by hand.
    await take(jobs.slice(0, 1), 1, "dead-letters");
    const letters = (await (await workspace.call("GET", "/api/dead-letters")).json()) as { data: { id: string }[] };
    for (const { id } of letters.data)
      expect((await workspace.call("POST", `/api/dead-letters/${id}/replay`)).status).toBe(200);
    await take(jobs.slice(0, 1));
    await expectNothingOf(who, ws);

    // Neighbours in the same POST are stored.
    const third = digits();
    await take([
      webhookJob(
        about(number, {
          contacts: [contact({ wa: who.wa, name: who.name }), contact({ wa: third, name: "Third Person" })],
          messages: [message({ wa: who.wa }), message({ wa: third }, { text: { body: "Still here" } })],
        }),
      ),
    ]);
    await expectNothingOf(who, ws);
    expect(await dumpOf(env.SHARD_0, ws)).toContain("Still here");
    expect(await dumpOf(env.SHARD_0, elsewhere.workspaceId)).toBe(untouched);
    await expectExactCounts(ws);
    expect(await bucketDump()).toContain(who.wa);

    // What they say from now on makes a new contact; the old does not come with it.
    await take([
      webhookJob(says(number, { wa: who.wa, name: "New Name" }, { at: soon(), text: { body: "Hi again" } })),
    ]);
    await take(jobs);
    const now = await contactOf(ws, who.wa);
    expect(now).not.toBe(contactId);
    const theirs = (await inboxOf(ws).messages()).filter((row) => row.contact_id === now);
    expect(theirs.map((row) => row.content)).toEqual([expect.stringContaining("Hi again")]);
    expect(await dumpOf(env.SHARD_0, ws)).not.toContain("cake");
    await expectExactCounts(ws);
  });

  it("is recognised by the other spelling of the number, and after the secret was changed", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const ws = workspace.workspaceId;
    const eight = `9${digits().slice(-7)}`;
    const [with9, without9] = [`55119${eight}`, `5511${eight}`];
    await take([webhookJob(says(number, { wa: with9, name: "Bruna" }, "Oi"))]);
    await order(workspace, await contactOf(ws, with9));
    const rotated = {
      ...heldQueues().env,
      SECRET_KEY: "another secret of 32 characters or more",
      SECRET_KEY_PREVIOUS: env.SECRET_KEY,
    } as Env;
    const again = [with9, without9].map((wa) => webhookJob(says(number, { wa, name: "Bruna" }, "Oi")));
    const result = await deliver("inbound", again, { env: rotated });
    expect(result.retryBatch.retry).toBe(false);
    expect(await inboxOf(ws).contacts()).toEqual([]);
  });

  it("stays away when the old message is of the very second of the erasure", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const ws = workspace.workspaceId;
    const wa = digits();
    await take([webhookJob(says(number, { wa, name: "Same Second" }, { at: ago(0) }))]);
    await order(workspace, await contactOf(ws, wa));
    const at = Number(
      (
        await env.SHARD_0.prepare("SELECT erased_at FROM erased_identities WHERE workspace_id = ?1")
          .bind(ws)
          .first<{ erased_at: number }>()
      )?.erased_at,
    );
    const second = Math.floor(at / 1000) * 1000;
    await take([webhookJob(says(number, { wa }, { at: second, text: { body: "Then" } }))]);
    expect(await inboxOf(ws).contacts()).toEqual([]);
    await take([webhookJob(says(number, { wa }, { at: second + 1000, text: { body: "Later" } }))]);
    expect(await inboxOf(ws).contacts()).toHaveLength(1);
  });

  it("is forgotten altogether when nothing old can come any more", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const wa = digits();
    await take([webhookJob(says(number, { wa }))]);
    await order(workspace, await contactOf(workspace.workspaceId, wa));
    const kept = async () =>
      (
        await env.SHARD_0.prepare("SELECT hash FROM erased_identities WHERE workspace_id = ?1")
          .bind(workspace.workspaceId)
          .all()
      ).results.length;
    const { env: held } = heldQueues();
    await fireCron("0 3 * * *", Date.now() + 34 * DAY, { env: held });
    expect(await kept()).toBeGreaterThan(0);
    await fireCron("0 3 * * *", Date.now() + 36 * DAY, { env: held });
    expect(await kept()).toBe(0);
  });
});
