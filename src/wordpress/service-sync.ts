/** Readings: page by page, in jobs of a few pages, each of which may be the last before a crash. */
import { numberVariants } from "../contacts/service-variants";
import { fillGroups } from "../groups/service-fill";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { advance, firstCursor, type Reading, requestOf, stepBack, UnreadableAnswer, watermarkOf } from "./reading";
import { type Person, readPerson, valueAt } from "./records";
import { siteOf } from "./service-credentials";
import { orderSync, type SyncJob } from "./service-jobs";
import { readSite, type SiteAnswer } from "./site";
import { postpone, type Source, selectCountry, selectDue } from "./store";
import { applyPage, claimSync, endFailed, type NewPerson, startSync, storeCursor, storeFailure } from "./store-sync";

/** Pages of one job: other sites wait for no more than these. */
const PAGES_PER_JOB = 3;
/** How often sources are read, and the longest pause after readings that failed. ms */
const EVERY = 15 * 60_000;
const LONGEST_PAUSE = 24 * 3_600_000;
/** Calls in a row that may fail before the reading does: about an hour. */
const MAX_FAILURES = 8;
/** ms; the first and the longest pause after a call that failed. */
const FIRST_WAIT = 15_000;
const LONGEST_WAIT = 15 * 60_000;
/** ms without progress after which the cron orders a run. */
const STALLED = 120_000;
/** Sources that a cron takes up at a time. */
const DUE_AT_ONCE = 500;

/** Starts a reading, or answers null when one is under way or the source is not to be read. */
export async function beginSync(
  rt: Runtime,
  db: Db,
  source: Pick<Source, "workspaceId" | "id">,
  start: { shard: number; full: boolean; forced: boolean },
): Promise<Source | null> {
  const now = rt.clock();
  const syncId = rt.newId();
  const begun = await startSync(db, source, { ...start, syncId, dueAt: now + STALLED }, now);
  if (begun) await orderSync(rt, { workspaceId: source.workspaceId, id: source.id, shard: start.shard, syncId }, 0);
  return begun;
}

/** One run of a reading. Throws when the database does not answer. */
export async function runSync(rt: Runtime, job: SyncJob): Promise<void> {
  const db = shard(rt, job.shard);
  const now = rt.clock();
  let source = await claimSync(db, job, { token: rt.newId(), until: now + leaseTime(rt), now });
  if (!source) return;
  const country = await selectCountry(db, source.workspaceId);
  for (let page = 1; source?.status === "running"; page += 1) {
    const reading: Reading = {
      kind: source.kind,
      config: source.config,
      cursor: source.cursor ?? firstCursor(source.kind, source.config, source.watermark, rt.clock()),
    };
    const last: boolean = page >= PAGES_PER_JOB;
    const answer = await ask(rt, source, reading);
    source = await take(rt, db, { source, reading, country, job, last }, answer);
    if (last && source?.status === "running") return orderSync(rt, job, 0);
  }
}

/** A run asks once a page and stores once. */
function leaseTime(rt: Runtime): number {
  return 2 * rt.config.PIPELINE.providerTimeout + 30_000;
}

async function ask(rt: Runtime, source: Source, reading: Reading): Promise<SiteAnswer> {
  try {
    return await readSite(rt, await siteOf(rt, source), requestOf(reading));
  } catch (error) {
    // Credentials that do not open any more: named again they do.
    log("error", "wordpress.unreadable", { workspace_id: source.workspaceId, id: source.id, ...errorFields(error) });
    return { kind: "refused", message: "The stored credentials cannot be read: name them again" };
  }
}

interface Step {
  source: Source;
  reading: Reading;
  country: string | null;
  job: SyncJob;
  /** The last page of this run. */
  last: boolean;
}

/** Stores what a page gave. Answers the source where this run goes on, null where it ends. */
async function take(rt: Runtime, db: Db, step: Step, answer: SiteAnswer): Promise<Source | null> {
  switch (answer.kind) {
    case "page":
      return takePage(rt, db, step, answer);
    case "beyond": {
      const cursor = stepBack(step.reading);
      if (!cursor) return fail(rt, db, step.source, "The site says that the first page does not exist");
      const now = rt.clock();
      const leaseUntil = step.last ? null : now + leaseTime(rt);
      return storeCursor(db, step.source, { cursor, leaseUntil, dueAt: now + STALLED });
    }
    case "refused":
      return fail(rt, db, step.source, answer.message);
    case "later":
      return wait(rt, db, step, answer);
  }
}

async function takePage(
  rt: Runtime,
  db: Db,
  { source, reading, country, last }: Step,
  page: Extract<SiteAnswer, { kind: "page" }>,
): Promise<Source | null> {
  // The site's clock is what `modified_after` is compared with.
  if (source.cursor === null && page.date !== null) reading.cursor.begun = page.date;
  let advanced: ReturnType<typeof advance>;
  try {
    advanced = advance(reading, source.counts.pages, page, valueAt);
  } catch (error) {
    if (error instanceof UnreadableAnswer) return fail(rt, db, source, error.message);
    throw error;
  }
  const { records, next, done } = advanced;
  const read = records.map((record) => readPerson(source.kind, source.config, record, country));
  const found = read.filter((person) => person !== null);
  const people = unite(rt, found);
  const now = rt.clock();
  return applyPage(
    db,
    source,
    {
      stepId: rt.newId(),
      cursor: next,
      read: records.length,
      failed: records.length - found.length,
      people,
      tags: source.config.tags,
      leaseUntil: last ? null : now + leaseTime(rt),
      dueAt: now + STALLED,
      finished: done
        ? { watermark: watermarkOf({ ...reading, cursor: next }), dueAt: source.enabled ? nextTurn(now) : null }
        : null,
      withNew: (contacts) =>
        fillGroups({ ...contacts, workspaceId: source.workspaceId, most: people.length }, rt.newId, now),
    },
    now,
  );
}

/** One person per number. Who agreed in one record agreed. */
function unite(rt: Runtime, found: readonly Person[]): NewPerson[] {
  const byNumber = new Map<string, NewPerson>();
  for (const person of found) {
    const variants = numberVariants(person.digits);
    const key = variants.toSorted()[0] ?? person.digits;
    const known = byNumber.get(key);
    if (known) {
      known.name ??= person.name;
      known.optedIn ||= person.optedIn;
      continue;
    }
    const variant = variants.find((digits) => digits !== person.digits) ?? person.digits;
    byNumber.set(key, { ...person, id: rt.newId(), variant });
  }
  return [...byNumber.values()];
}

/** The site has to be asked again later: after the time it names, else after longer and longer pauses. */
async function wait(
  rt: Runtime,
  db: Db,
  { source, job }: Step,
  { message, retryAfter }: { message: string; retryAfter: number | null },
): Promise<null> {
  if (source.failures + 1 >= MAX_FAILURES) return fail(rt, db, source, message);
  const now = rt.clock();
  const pause = retryAfter ?? Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** source.failures);
  await storeFailure(db, source, { error: message, notBefore: now + pause, dueAt: now + pause + STALLED }, now);
  await orderSync(rt, job, pause);
  return null;
}

/** Ends the reading; each that fails in a row doubles the pause before the next. */
async function fail(rt: Runtime, db: Db, source: Source, error: string): Promise<null> {
  const now = rt.clock();
  const pause = Math.min(LONGEST_PAUSE, EVERY * 2 ** Math.min(source.failedSyncs, 10));
  const result = {
    ...source.counts,
    status: "failed" as const,
    error,
    started_at: source.startedAt ?? now,
    finished_at: now,
  };
  await endFailed(db, source, { result, dueAt: nextTurn(now + pause - EVERY) }, now);
  log("info", "wordpress.sync_failed", { workspace_id: source.workspaceId, id: source.id, error });
  return null;
}

/** The next quarter of an hour after `at`. */
function nextTurn(at: number): number {
  return Math.floor(at / EVERY) * EVERY + EVERY;
}

/** Cron, every 15 minutes, per shard: starts what is due. Two at once start nothing twice. */
export async function startDue(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  for (const source of await selectDue(db, "idle", now, DUE_AT_ONCE)) {
    await beginSync(rt, db, source, { shard: shardNumber, full: false, forced: false });
  }
}

/** Cron, each minute, per shard: readings whose job was lost. */
export async function resumeStalled(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const stalled = await selectDue(db, "running", now, DUE_AT_ONCE);
  await postpone(db, stalled, now + STALLED);
  for (const { workspaceId, id, syncId } of stalled) {
    if (syncId !== null) await orderSync(rt, { workspaceId, id, syncId, shard: shardNumber }, 0);
  }
}
