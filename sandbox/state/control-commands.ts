import { z } from "zod";
import { type Answer, answer, ControlError } from "../answer";
import { customerMessage } from "../meta/customers";
import { webhookBytes } from "../meta/envelope";
import { isKnownCode } from "../meta/graph-error";
import { numberPatch } from "../meta/numbers";
import type { ControlCommand } from "./commands";
import type { Core } from "./core";
import { faultSchema } from "./faults";
import { settingsPatch } from "./settings";
import { counters } from "./storage";

const MAX_FLUSH = 100_000;

const flushSchema = z.strictObject({
  order: z.enum(["in", "reverse", "shuffle"]).default("in"),
  /** How often each item is delivered in all. */
  duplicate: z.int().min(1).max(20).default(1),
  /** Items in one POST, at most. */
  batch: z.int().min(1).max(1_000).default(1),
  limit: z.int().min(1).max(MAX_FLUSH).default(MAX_FLUSH),
  seed: z.int().min(0).optional(),
  concurrency: z.int().min(1).max(50).default(1),
});

const rawWebhook = z.strictObject({
  /** A JSON body, escaped as Meta does; or `raw`, the exact text. */
  body: z.unknown().optional(),
  raw: z.string().optional(),
  /** Path at the app, or a whole address. */
  path: z.string().default("/webhook"),
  headers: z.record(z.string(), z.string()).default({}),
  /** Another secret than the app's. */
  secret: z.string().optional(),
  /** False sends no signature. */
  sign: z.boolean().default(true),
});

const reviewSchema = z.strictObject({
  status: z.enum(["APPROVED", "REJECTED", "PENDING", "PAUSED", "DISABLED", "FLAGGED", "REINSTATED", "IN_APPEAL"]),
  reason: z.string().optional(),
});

const statusSchema = z.strictObject({
  status: z.enum(["sent", "delivered", "read", "played", "failed"]),
  /** Of Meta's, or (from 7000) of Infobip's. */
  code: z
    .int()
    .refine((code) => isKnownCode(code) || (code >= 7_000 && code < 8_000), {
      error: "is not a code the sandbox knows",
    })
    .optional(),
});

const redeliverSchema = z.strictObject({ since: z.iso.datetime().optional() });

/** One call of the control API. Throws ControlError for what it cannot do. */
export async function performControl(core: Core, command: ControlCommand): Promise<Answer> {
  switch (command.kind) {
    case "customer.write": {
      if (!/^[1-9]\d{1,14}$/.test(command.phone)) throw new ControlError("A customer's phone number is 2 to 15 digits");
      const message = parse(customerMessage, command.message);
      const writer = core.infobip.isSender(message.to) ? core.infobip : core.customers;
      return answer(writer.write(command.phone, message, command.file), 201);
    }
    case "messages.list":
      return answer(core.messages.list(command.filter));
    case "messages.status": {
      const { status, code } = parse(statusSchema, command.body);
      const ordered = core.infobip.orderStatus(command.id, status, code ?? null);
      if (!ordered && !core.messages.orderStatus(command.id, status, code ?? null))
        throw new ControlError("No such message was accepted", 404);
      return answer({ queued: true }, 201);
    }
    case "reads.list":
      return answer({ data: core.messages.reads() });
    case "faults.add": {
      const faults = parse(z.union([faultSchema, z.array(faultSchema).min(1)]), command.body);
      const ids = (Array.isArray(faults) ? faults : [faults]).map((fault) => core.faults.add(fault));
      return answer({ ids }, 201);
    }
    case "faults.list":
      return answer({ data: core.faults.list() });
    case "faults.clear":
      core.faults.clear();
      return answer({ cleared: true });
    case "settings.get":
      return answer(core.settings.get());
    case "settings.patch":
      return answer(core.settings.patch(parse(settingsPatch, command.body)));
    case "numbers.patch": {
      const { registered, ...fields } = parse(numberPatch, command.body);
      const number = core.accounts.numberForInbound(command.phoneId);
      core.accounts.saveNumber(command.phoneId, {
        ...number,
        registered: registered ?? number.registered,
        fields: { ...number.fields, ...fields },
      });
      return answer({ saved: true });
    }
    case "templates.list":
      return answer({ data: core.templates.all() });
    case "templates.review": {
      const { status, reason } = parse(reviewSchema, command.body);
      const template = core.templates.get(command.id);
      if (!template) throw new ControlError("No such template", 404);
      core.templates.review(command.id, status, reason ?? null);
      return answer({ id: command.id, status });
    }
    case "webhooks.list":
      return answer({ data: core.outbox.list(command.state, command.limit), open: core.outbox.countOpen() });
    case "webhooks.send":
      return sendRaw(core, command.body);
    case "webhooks.redeliver": {
      const { since } = parse(redeliverSchema, command.body);
      return answer({ items: core.outbox.redeliver(since === undefined ? 0 : Date.parse(since)) });
    }
    case "flush": {
      const { limit, seed, ...delivery } = parse(flushSchema, command.body);
      const report = await core.courier.deliver(core.outbox.open(null, limit), { ...delivery, seed: seed ?? null });
      return answer({ ...report, pending: core.outbox.countOpen() });
    }
    case "stats":
      return answer({
        accepted: core.messages.count(),
        accepted_by_type: counters(core.storage, "accepted:"),
        refused: counters(core.storage, "refused:"),
        faults: counters(core.storage, "fault:"),
        calls: counters(core.storage, "call:"),
        webhooks: { pending: core.outbox.countOpen(), posts: counters(core.storage, "webhook:") },
      });
    case "reset":
      core.reset();
      return answer({ reset: true });
  }
}

async function sendRaw(core: Core, text: string): Promise<Answer> {
  const { body, raw, path, headers, secret, sign } = parse(rawWebhook, text);
  if ((body === undefined) === (raw === undefined)) throw new ControlError("Give exactly one of body and raw");
  const url = /^https?:\/\//.test(path) ? path : `${core.config.APP_URL}${path}`;
  const bytes = raw === undefined ? webhookBytes(body) : new TextEncoder().encode(raw);
  try {
    return answer(
      await core.courier.postRaw(url, bytes, sign ? (secret ?? core.config.META_APP_SECRET) : null, headers),
    );
  } catch (error) {
    throw new ControlError(`The app did not answer: ${String(error)}`, 502);
  }
}

function parse<T extends z.ZodType>(schema: T, text: string): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ControlError("The body is not JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ControlError(parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; "));
}
