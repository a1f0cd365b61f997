import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { vi } from "vitest";
import { consume } from "../../src/consumer";
import { runCron } from "../../src/cron";
import type { SendJob } from "../../src/messages/jobs";
import type { Runtime } from "../../src/platform/runtime";

type Overrides = Partial<Omit<Runtime, "env" | "config">>;

let deliveries = 0;

/** Hands a batch to the consumer as the queue would; answers what it settled. */
export async function deliver(
  queue: string,
  bodies: readonly unknown[],
  options: { attempts?: number; env?: Env; overrides?: Overrides; timestamp?: Date } = {},
) {
  const batch = createMessageBatch(
    queue,
    bodies.map((body) => {
      deliveries += 1;
      return {
        id: `m${deliveries}`,
        timestamp: options.timestamp ?? new Date(),
        attempts: options.attempts ?? 1,
        body,
      };
    }),
  );
  const ctx = createExecutionContext();
  await consume(batch, options.env ?? env, options.overrides);
  return getQueueResult(batch, ctx);
}

/** Fires one cron as if it were `at` (ms). */
export async function fireCron(
  cron: string,
  at = Date.now(),
  options: { env?: Env; overrides?: Overrides } = {},
): Promise<void> {
  await runCron(
    { cron, scheduledTime: at, type: "scheduled", noRetry: () => {} } as unknown as ScheduledController,
    options.env ?? env,
    options.overrides,
  );
}

/** The send job of a stored message. */
export function sendJob(message: { workspace_id: string; phone_number_id: string; id: string }, shard = 0): SendJob {
  return {
    v: 1,
    kind: "message.send",
    workspaceId: message.workspace_id,
    shard,
    phoneNumberId: message.phone_number_id,
    id: message.id,
  };
}

/** An environment whose queues keep what they get instead of delivering it. */
export function heldQueues(base: Env = env): {
  env: Env;
  held: Map<string, { body: unknown; delaySeconds: number }[]>;
} {
  const held = new Map<string, { body: unknown; delaySeconds: number }[]>();
  const queueOf = (name: string) => {
    const list: { body: unknown; delaySeconds: number }[] = [];
    held.set(name, list);
    return {
      send: async (body: unknown, options?: { delaySeconds?: number }) => {
        list.push({ body, delaySeconds: options?.delaySeconds ?? 0 });
      },
      sendBatch: async (messages: Iterable<{ body: unknown; delaySeconds?: number }>) => {
        for (const { body, delaySeconds } of messages) list.push({ body, delaySeconds: delaySeconds ?? 0 });
      },
    };
  };
  const queues = { INBOUND: queueOf("INBOUND"), OUTBOUND: queueOf("OUTBOUND"), BULK: queueOf("BULK") };
  return { env: { ...base, ...queues } as unknown as Env, held };
}

/** The row of a message, straight from its shard. */
export async function messageRow(
  id: string,
  workspaceId: string,
  database: D1Database = env.SHARD_0,
): Promise<Record<string, unknown>> {
  const row = await database
    .prepare("SELECT * FROM messages WHERE workspace_id = ?1 AND id = ?2")
    .bind(workspaceId, id)
    .first();
  if (!row) throw new Error("No such message");
  return row;
}

/** Waits until `check` passes: queues and objects of the real Worker take their time, on a busy machine seconds. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 10_000, interval: 20 });
}

/** Waits until a message has come this far. */
export async function untilStatus(
  id: string,
  workspaceId: string,
  ...statuses: string[]
): Promise<Record<string, unknown>> {
  return vi.waitFor(
    async () => {
      const row = await messageRow(id, workspaceId);
      if (!statuses.includes(String(row.status))) throw new Error(`The message is ${String(row.status)}`);
      return row;
    },
    { timeout: 10_000, interval: 20 },
  );
}
