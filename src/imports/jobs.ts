import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { attendImports, runImport } from "./service";

/** "Go on with this import": may run twice, and twice at once. */
export const importJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("contact.import"),
  workspaceId: z.string(),
  shard: z.int(),
  id: z.string(),
});

export type ImportJob = z.infer<typeof importJobSchema>;

/** Throws when a database or bucket did not answer; what was applied before stays applied. */
export async function handleImportJob(rt: Runtime, job: ImportJob): Promise<void> {
  await runImport(rt, job);
}

/** Cron, each minute, per shard: imports that stand still, and old ones. */
export async function runDueImports(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  await attendImports(rt, shardNumber, now);
}
