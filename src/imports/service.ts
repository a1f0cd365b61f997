/** Files of contacts: taking them in, applying them step by step, telling what was refused. */
import type { WorkspaceScope } from "../auth/guard";
import { csvCell } from "../contacts/service-csv";
import { numberVariants } from "../contacts/service-variants";
import { fillGroups } from "../groups/service-fill";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import type { ImportJob } from "./jobs";
import { type ReadRow, type Row, readRow } from "./rows";
import { loadRows, PART_ROWS, prefixOf, removeStored, storeFile, storeRows } from "./staging";
import {
  applyStep,
  type ContactImport,
  deleteImport,
  insertImport,
  type Person,
  postpone,
  selectDue,
  selectImport,
  startImport,
} from "./store";

export type { ContactImport } from "./store";

/** Rows of one transaction: it must end well within D1's 30 seconds. */
const STEP_ROWS = 1000;
/** Characters of one transaction's JSON parameter: D1 takes 2 MB, and a character has up to three bytes. */
const STEP_CHARS = 400_000;

/** Parts of one run of the job, some seconds of work: a batch of a hundred jobs stays within a consumer's 15 minutes. */
const PARTS_PER_RUN = 4;

/** ms without progress after which the cron orders a run. */
const STALLED = 5 * 60_000;
/** ms a finished import and its rows are kept: how long its rejected rows can be downloaded. */
const KEPT = 30 * 86_400_000;
/** ms after which what is left of a request that ended half way is removed. */
const ABANDONED = 3_600_000;
const DUE_AT_ONCE = 50;

export interface RowResult {
  rowNumber: number;
  phoneNumber: string;
  status: "imported" | "updated" | "failed";
  reason: string | null;
}

/**
 * Takes a file in. Up to 5,000 rows are applied at once, with a result per row; of a larger file a job is ordered and
 * `results` is null. Once the rows are stored the import is carried through, whatever becomes of this request.
 */
export async function receiveImport(
  scope: WorkspaceScope,
  request: { body: ReadableStream<Uint8Array> | null; contentType: string },
): Promise<{ import: ContactImport; results: RowResult[] | null }> {
  const { rt, db, workspaceId } = scope;
  const bucket = rt.env.MEDIA;
  const id = rt.newId();
  const prefix = prefixOf(workspaceId, id);
  const begun = rt.clock();
  const createdBy = scope.caller.kind === "user" ? scope.caller.userId : null;
  await insertImport(db, { workspaceId, id, createdBy, dueAt: begun + ABANDONED }, begun);
  let started: ContactImport;
  try {
    const { fileName, format } = await storeFile(bucket, prefix, request);
    const totalRows = await storeRows(bucket, prefix, format);
    const now = rt.clock();
    const dueAt = now + (totalRows === 0 ? KEPT : STALLED);
    started = await startImport(db, { workspaceId, id, fileName, totalRows, dueAt }, now);
  } catch (error) {
    await forget(rt, db, workspaceId, id);
    throw error;
  }
  if (started.totalRows > PART_ROWS) {
    await orderRun(rt, scope.membership.shard, started);
    return { import: started, results: null };
  }
  const results: RowResult[] = [];
  const done = started.totalRows === 0 ? started : await runPart(rt, db, started, results);
  return { import: done ?? started, results };
}

/** A refusal is told whether or not what came could be removed: the cron does it then. */
async function forget(rt: Runtime, db: Db, workspaceId: string, id: string): Promise<void> {
  try {
    await removeStored(rt.env.MEDIA, prefixOf(workspaceId, id));
    await deleteImport(db, workspaceId, id);
  } catch (error) {
    log("warn", "import.forget_failed", { workspace_id: workspaceId, ...errorFields(error) });
  }
}

async function orderRun(rt: Runtime, shardNumber: number, row: ContactImport): Promise<void> {
  const job: ImportJob = { v: 1, kind: "contact.import", workspaceId: row.workspaceId, shard: shardNumber, id: row.id };
  await rt.env.BULK.send(job);
}

/** One run: a few parts, then a job for what is left. Two runs at once do nothing twice. */
export async function runImport(rt: Runtime, job: ImportJob): Promise<void> {
  const db = shard(rt, job.shard);
  const row = await selectImport(db, [job.workspaceId], job.id);
  if (!row) return;
  // Also of a finished one: the run that finished it may have ended before it could show it.
  if (row.status === "completed") return publishProgress(rt, db, row);
  let now: ContactImport | null = row;
  for (let part = 0; part < PARTS_PER_RUN && now?.status === "processing"; part += 1) {
    now = await runPart(rt, db, now, null);
  }
  if (now?.status === "processing") await orderRun(rt, job.shard, now);
}

/**
 * Applies the rest of the part that the cursor stands in, a transaction per step. Null when another run took over.
 * `results` gets what became of each row.
 */
async function runPart(
  rt: Runtime,
  db: Db,
  row: ContactImport,
  results: RowResult[] | null,
): Promise<ContactImport | null> {
  const rows = await loadRows(rt.env.MEDIA, prefixOf(row.workspaceId, row.id), row.cursor);
  let now = row;
  for (let at = 0; at < rows.length; ) {
    const chunk = rows.slice(at, at + stepLength(rows, at));
    const read = chunk.map((cells) => readRow(cells, row.country));
    const { people, ownerOf } = unite(rt, read);
    const clock = rt.clock();
    const applied = await applyStep(
      db,
      {
        workspaceId: row.workspaceId,
        importId: row.id,
        stepId: rt.newId(),
        from: now.cursor,
        to: now.cursor + chunk.length,
        good: ownerOf.filter((person) => person !== null).length,
        failed: ownerOf.filter((person) => person === null).length,
        people,
        withNew: (contacts) =>
          fillGroups({ ...contacts, workspaceId: row.workspaceId, most: people.length }, rt.newId, clock),
        dueAt: clock + STALLED,
        doneDueAt: clock + KEPT,
      },
      clock,
    );
    if (!applied) return null;
    results?.push(...resultsOf(now.cursor, chunk, read, ownerOf, applied.known));
    now = applied.import;
    at += chunk.length;
  }
  await publishProgress(rt, db, now);
  return now;
}

/** How many rows from `at` on go into one transaction. */
function stepLength(rows: readonly Row[], at: number): number {
  let chars = 0;
  for (let n = 0; n < STEP_ROWS; n += 1) {
    const row = rows[at + n];
    if (!row) return n;
    chars += 200 + row[1].length + row[2].length;
    if (n > 0 && chars > STEP_CHARS) return n;
  }
  return STEP_ROWS;
}

/** One person per number; what a later row says of it wins, what it leaves empty stays. */
function unite(rt: Runtime, read: readonly ReadRow[]): { people: Person[]; ownerOf: (Person | null)[] } {
  const byNumber = new Map<string, Person>();
  const ownerOf = read.map((row) => {
    if (!row.ok) return null;
    const variants = numberVariants(row.digits);
    const key = variants.toSorted()[0] ?? row.digits;
    const known = byNumber.get(key);
    if (known) {
      known.name = row.name ?? known.name;
      known.tags = row.tags ?? known.tags;
      return known;
    }
    const variant = variants.find((digits) => digits !== row.digits) ?? row.digits;
    const person: Person = { id: rt.newId(), digits: row.digits, variant, name: row.name, tags: row.tags };
    byNumber.set(key, person);
    return person;
  });
  return { people: [...byNumber.values()], ownerOf };
}

function resultsOf(
  from: number,
  rows: readonly Row[],
  read: readonly ReadRow[],
  ownerOf: readonly (Person | null)[],
  known: ReadonlySet<string>,
): RowResult[] {
  const seen = new Set(known);
  return rows.map(([phoneNumber], at) => {
    const base = { rowNumber: from + at + 1, phoneNumber };
    const row = read[at];
    const person = ownerOf[at];
    if (!row?.ok || !person) return { ...base, status: "failed", reason: row && !row.ok ? row.reason : null };
    const status = seen.has(person.digits) ? "updated" : "imported";
    seen.add(person.digits);
    return { ...base, status, reason: null };
  });
}

/** Shows on the hub how far it is. What could not be shown is shown by the next step, or by asking. */
async function publishProgress(rt: Runtime, db: Db, row: ContactImport): Promise<void> {
  const event = {
    type: "import.progress" as const,
    import_id: row.id,
    status: row.status === "completed" ? ("completed" as const) : ("processing" as const),
    total_rows: row.totalRows,
    processed_rows: row.cursor,
    imported: row.imported,
    updated: row.updated,
    failed: row.failed,
    at: isoMillis(row.updatedAt),
  };
  try {
    await publishEvents(rt, row.workspaceId, `import:${row.id}:${row.cursor}`, [event], db.bookmark);
  } catch (error) {
    log("warn", "import.publish_failed", { workspace_id: row.workspaceId, ...errorFields(error) });
  }
}

/** Cron, per shard: goes on with imports that stand still, removes old ones. Bounded; may run twice at once. */
export async function attendImports(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  for (const row of await selectDue(db, now, DUE_AT_ONCE)) {
    if (row.status === "processing") {
      await postpone(db, row.workspaceId, row.id, now + STALLED);
      await orderRun(rt, shardNumber, row);
    } else {
      await removeStored(rt.env.MEDIA, prefixOf(row.workspaceId, row.id));
      await deleteImport(db, row.workspaceId, row.id);
    }
  }
}

/** The rows that were refused so far, as CSV with the reason: read again from the stored rows, part by part. */
export function rejectedRows(rt: Runtime, row: ContactImport): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const prefix = prefixOf(row.workspaceId, row.id);
  let at = 0;
  let begun = false;
  return new ReadableStream({
    async pull(controller) {
      if (!begun) {
        begun = true;
        // The byte order mark tells Excel that the file is UTF-8.
        controller.enqueue(encoder.encode("\u{FEFF}row_number,phone,name,tags,reason\r\n"));
      }
      let text = "";
      while (at < row.cursor && text === "") {
        const rows = (await loadRows(rt.env.MEDIA, prefix, at)).slice(0, row.cursor - at);
        const from = at;
        text = rows.map((cells, n) => rejectedLine(from + n + 1, cells, readRow(cells, row.country))).join("");
        at += rows.length;
      }
      if (text !== "") controller.enqueue(encoder.encode(text));
      if (at >= row.cursor) controller.close();
    },
  });
}

function rejectedLine(rowNumber: number, cells: Row, read: ReadRow): string {
  return read.ok ? "" : `${[String(rowNumber), ...cells, read.reason].map(csvCell).join(",")}\r\n`;
}
