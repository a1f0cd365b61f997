/**
 * The app with every billed operation counted, and two addresses of the bench's own: to read the counts, and to store
 * many messages at once. It is the same code as the app's bundle, behind counting bindings.
 */

import { z } from "zod";
import app, {
  Conversation as PlainConversation,
  SenderGate as PlainGate,
  WorkspaceHub as PlainHub,
  ApiQuota as PlainQuota,
} from "../../src/worker";
import { seedMessages } from "../../test/support/seed";
import { Meter, meteredEnv, StorageMeter } from "../meter";
import { seedContacts, upsertBare } from "./contacts";

const meter = new Meter();
const invocations = { requests: 0, batches: 0, messages: 0, logs: 0 };
let storage: StorageMeter | undefined;
const counted = new WeakMap<Env, Env>();

/** One counting environment per environment: settings are parsed once for each. */
function countedEnv(env: Env): Env {
  const known = counted.get(env);
  if (known) return known;
  const made = meteredEnv(env, meter);
  counted.set(env, made);
  return made;
}

function observed(state: DurableObjectState): DurableObjectState {
  storage ??= new StorageMeter(state);
  return state;
}

export class ApiQuota extends PlainQuota {
  constructor(state: DurableObjectState, env: Env) {
    super(observed(state), countedEnv(env));
  }
}
export class Conversation extends PlainConversation {
  constructor(state: DurableObjectState, env: Env) {
    super(observed(state), countedEnv(env));
  }
}
export class SenderGate extends PlainGate {
  constructor(state: DurableObjectState, env: Env) {
    super(observed(state), countedEnv(env));
  }
}
export class WorkspaceHub extends PlainHub {
  constructor(state: DurableObjectState, env: Env) {
    super(observed(state), countedEnv(env));
  }
}

for (const level of ["log", "warn", "error"] as const) {
  const write = console[level].bind(console);
  console[level] = (...args: unknown[]) => {
    invocations.logs += 1;
    write(...args);
  };
}

/** Everything since the last call. */
function take() {
  const counts = {
    ...invocations,
    d1_round_trips: meter.trips(),
    d1_rows_read: meter.rowsRead(),
    d1_rows_written: meter.rowsWritten(),
    shard_rows_read: meter.rowsRead("SHARD_0"),
    object_requests: meter.objectRequests,
    object_calls: Object.fromEntries(meter.objectCalls),
    queue_operations: meter.queueOperations,
    bucket_writes: meter.bucketWrites,
    bucket_reads: meter.bucketReads,
  };
  const objects = storage?.take() ?? { rowsRead: 0, rowsWritten: 0 };
  meter.reset();
  invocations.requests = 0;
  invocations.batches = 0;
  invocations.messages = 0;
  invocations.logs = 0;
  return { ...counts, object_rows_read: objects.rowsRead, object_rows_written: objects.rowsWritten };
}

const manyContacts = z.object({ workspaceId: z.string(), rows: z.int(), after: z.int() });
const bareContacts = z.object({ workspaceId: z.string(), rows: z.int(), prefix: z.string() });

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (url.pathname === "/bench/counts") return Response.json(take());
    if (url.pathname === "/bench/seed") {
      const seed: Parameters<typeof seedMessages>[1] = await request.json();
      await seedMessages(env.SHARD_0, seed);
      return Response.json({ stored: seed.messages });
    }
    if (url.pathname === "/bench/contacts") {
      const { workspaceId, rows, after } = manyContacts.parse(await request.json());
      await seedContacts(env.SHARD_0, workspaceId, rows, after);
      return Response.json({ stored: rows });
    }
    if (url.pathname === "/bench/upsert") {
      const { workspaceId, rows, prefix } = bareContacts.parse(await request.json());
      await upsertBare(env.SHARD_0, workspaceId, prefix, rows);
      return Response.json({ stored: rows });
    }
    invocations.requests += 1;
    return app.fetch(request, countedEnv(env), ctx);
  },
  async queue(batch, env) {
    invocations.batches += 1;
    await app.queue(batch, countedEnv(env));
    invocations.messages += batch.messages.length;
  },
  async scheduled(controller, env) {
    await app.scheduled(controller, countedEnv(env));
  },
} satisfies ExportedHandler<Env>;
