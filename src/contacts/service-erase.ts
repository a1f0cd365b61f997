/** Erasing a person for good (issue 3, 4): out of the lists at once, then everywhere else, step by step. */
import { z } from "zod";
import { eraseFromNextImport } from "../imports/service-erase";
import { eraseReceivedFiles } from "../media/service-erase";
import type { Db, Statement } from "../platform/d1";
import { unreachable } from "../platform/errors";
import { type Runtime, shard } from "../platform/runtime";
import { parseProviderJson } from "../providers/provider-json";
import { forgetShown, forgetThread } from "../realtime/service-erase";
import { ErasedNames, withoutPerson } from "./erase-names";
import type { EraseJob } from "./jobs";
import { ERASURE_PHASES } from "./schema";
import { MARKS_KEPT, marksOf } from "./service-erased";
import {
  beginErasure,
  type Counted,
  completeLook,
  type Erasable,
  type Erasure,
  movedTo,
  moveOn,
  selectErasure,
  selectNames,
  takeDueErasures,
  takeLateThreads,
} from "./store-erase";
import { deleteListed, EVENT_PAGE, LETTER_PAGE, mergeSearchIndex, pageEvents, pageLetters } from "./store-erase-events";
import {
  deleteReferences,
  emptyMessages,
  emptyRecipients,
  nextGroupThread,
  PAGE,
  pageReferences,
  pageThread,
  REFERENCE_PAGE,
  type Spoken,
  selectNumbers,
} from "./store-erase-messages";
import { insertMarks } from "./store-erased";

export { type Erasure, selectErasable, selectErasure } from "./store-erase";

/**
 * Statements of one run, of the 1,000 that an invocation may make and shares among its jobs. Each step is a few of them
 * over some hundred rows; what is left goes on with a job of its own.
 */
const QUERIES = 200;
/** ms without progress after which the cron orders a run. */
const STALLED = 90_000;
/** ms after which what was on its way while the first look ran is looked for: longer than a request, batch or lease. */
const LOOK_AGAIN = 5 * 60_000;
const DUE_AT_ONCE = 20;

/**
 * Begins: from here on nobody finds the person, nothing that waits is sent to them, and whoever writes from that number
 * is somebody new. The rest is done by a job, whatever happens to this request. A second call answers the same erasure.
 */
export async function eraseContact(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  who: Erasable,
  requestedBy: string | null,
): Promise<Erasure | null> {
  const now = rt.clock();
  // Read before, because only code can hash them. A name that comes between is marked by the job.
  const marks = insertMarks(await marksOf(rt, who.workspaceId, await selectNames(db, who)), now, now + MARKS_KEPT);
  const erasure = await beginErasure(db, { ...who, requestedBy, dueAt: now + STALLED }, marks, now);
  if (erasure && erasure.status === "processing") await orderRun(rt, shardNumber, erasure, 0);
  return erasure;
}

async function orderRun(rt: Runtime, shardNumber: number, erasure: Pick<Erasure, "workspaceId" | "id">, delay: number) {
  const { workspaceId, id } = erasure;
  const job: EraseJob = { v: 1, kind: "contact.erase", workspaceId, shard: shardNumber, id };
  await rt.env.BULK.send(job, { delaySeconds: delay / 1000 });
}

/** One run: some steps, then a job for what is left. Two runs at once do nothing twice. */
export async function runErasure(rt: Runtime, job: EraseJob): Promise<void> {
  const db = shard(rt, job.shard);
  let erasure = await selectErasure(db, [job.workspaceId], job.id);
  while (db.cost.queries < QUERIES) {
    if (!erasure || erasure.dueAt === null) return;
    const before: Erasure = erasure;
    erasure = await takeStep(rt, db, before);
    // The look is over: the next one has a job of its own, later.
    if (erasure && erasure.look > before.look) {
      if (erasure.dueAt !== null) await orderRun(rt, job.shard, erasure, LOOK_AGAIN);
      return;
    }
  }
  if (erasure) await orderRun(rt, job.shard, erasure, 0);
}

/** Cron, each minute, per shard: goes on with erasures that stand still. */
export async function attendErasures(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const due = await takeDueErasures(shard(rt, shardNumber), now, now + STALLED, DUE_AT_ONCE);
  for (const { workspaceId, contactId } of due) await orderRun(rt, shardNumber, { workspaceId, id: contactId }, 0);
}

/** Where a step leaves a phase: at `place`, or at its end. `statements` and the note of it are one transaction. */
interface Step {
  place: (string | number)[] | null;
  statements: Statement[];
  counted: Counted;
}

const END: Step = { place: null, statements: [], counted: {} };

/** One step; null when another run was faster, or there is nothing left at all. */
async function takeStep(rt: Runtime, db: Db, erasure: Erasure): Promise<Erasure | null> {
  const step = await stepOf(rt, db, erasure);
  const now = rt.clock();
  const next = step.place === null ? ERASURE_PHASES[ERASURE_PHASES.indexOf(erasure.phase) + 1] : erasure.phase;
  if (next === undefined) return endLook(db, erasure, now);
  const to = { look: erasure.look, phase: next, place: step.place };
  const results = await db.batch([
    ...step.statements,
    moveOn(erasure, to, step.counted, { now, dueAt: now + STALLED }),
  ]);
  return movedTo(results.at(-1));
}

/**
 * After the first look everything is gone, unless something was being sent; after a second one, nothing can come any
 * more, and what was kept to recognise the person goes as well.
 */
async function endLook(db: Db, erasure: Erasure, now: number): Promise<Erasure | null> {
  if (erasure.unsettled === 0) {
    return completeLook(db, erasure, { now, dueAt: erasure.look === 1 ? now + LOOK_AGAIN : null });
  }
  const again = { look: erasure.look + 1, phase: ERASURE_PHASES[0], place: null };
  const [result] = await db.batch([moveOn(erasure, again, {}, { now, dueAt: now + LOOK_AGAIN })]);
  return movedTo(result);
}

function stepOf(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  switch (erasure.phase) {
    case "live":
      return eraseLive(rt, db, erasure);
    case "imports":
      return eraseImports(rt, db, erasure);
    case "campaigns":
      return Promise.resolve({ ...END, statements: [emptyRecipients(erasure)] });
    case "messages":
      return eraseThreads(rt, db, erasure);
    case "groups":
      return eraseInGroups(rt, db, erasure);
    case "references":
      return eraseReferences(db, erasure);
    case "events":
      return eraseEvents(rt, db, erasure);
    case "letters":
      return eraseLetters(rt, db, erasure);
    case "search":
      return eraseSearch(db, erasure);
    default:
      return unreachable(erasure.phase);
  }
}

async function eraseLive(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const { workspaceId, threads, names, createdAt } = await takeLateThreads(db, erasure);
  await forgetShown(rt, workspaceId, { conversations: threads.map((thread) => thread.id), messages: [] });
  for (const { num, peer } of threads) await forgetThread(rt, workspaceId, { phoneNumberId: num, peer });
  return { ...END, statements: insertMarks(await marksOf(rt, workspaceId, names), createdAt, createdAt + MARKS_KEPT) };
}

async function eraseImports(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const names = new ErasedNames(erasure.names);
  const after = String(erasure.place?.[0] ?? "");
  const done = await eraseFromNextImport(rt, db, erasure.workspaceId, after, (digits) => names.is(digits));
  return { ...END, place: done === null ? null : [done] };
}

/** Place: which thread, then the last message seen of it. */
async function eraseThreads(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const [at = 0, ...after] = erasure.place ?? [];
  const thread = erasure.threads[Number(at)];
  if (!thread) return END;
  const page = await pageThread(db, erasure.workspaceId, thread.id, after);
  const last = page.at(-1);
  const place = last && page.length === PAGE ? [at, ...last.place] : [Number(at) + 1];
  return { place, ...(await emptied(rt, db, erasure, page)) };
}

/** Files first: what names them is in the messages, and a step that ends half way runs again. */
async function emptied(rt: Runtime, db: Db, erasure: Erasure, page: readonly Spoken[]): Promise<Omit<Step, "place">> {
  const gone = page.filter((message) => !message.erased && !message.leased);
  const files = gone.length === 0 ? 0 : await eraseReceivedFiles(rt, db, gone);
  const unsettled = page.filter((message) => message.leased).length;
  return {
    statements: emptyMessages(erasure, page, rt.clock()),
    counted: { messages: gone.length, files, unsettled },
  };
}

const authored = z.object({
  author: z.object({ wa_id: z.string().nullable(), user_id: z.string().nullable() }),
});

/** What the person wrote in groups. Place: the group's thread, then the last message seen of it. */
async function eraseInGroups(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const { workspaceId } = erasure;
  const names = new ErasedNames(erasure.names);
  const [before = "", ...after] = erasure.place ?? [];
  const thread = after.length > 0 ? String(before) : await nextGroupThread(db, workspaceId, String(before));
  if (thread === null) return END;
  const page = await pageThread(db, workspaceId, thread, after);
  const theirs = page.filter(({ content }) => {
    const said = authored.safeParse(content);
    return said.success && (names.is(said.data.author.wa_id) || names.is(said.data.author.user_id));
  });
  await forgetShown(rt, workspaceId, { conversations: [], messages: theirs.map((message) => message.id) });
  const last = page.at(-1);
  const place = last && page.length === PAGE ? [thread, ...last.place] : [thread];
  return { place, ...(await emptied(rt, db, erasure, theirs)) };
}

/** Reactions and statuses that name the person. Place: the number, then the last row seen of it. */
async function eraseReferences(db: Db, erasure: Erasure): Promise<Step> {
  const names = new ErasedNames(erasure.names);
  const [at = 0, ...after] = erasure.place ?? [];
  const number = (await selectNumbers(db, erasure.workspaceId))[Number(at)];
  if (!number) return END;
  const page = await pageReferences(db, erasure.workspaceId, number.id, after);
  const theirs = page.filter(
    ({ target, actor, payload }) =>
      names.standInMessageId(target) || names.is(actor.split(" ")[0]) || names.standIn(payload),
  );
  const last = page.at(-1);
  const place = last && page.length === REFERENCE_PAGE ? [at, last.target, last.kind, last.actor] : [Number(at) + 1];
  return { place, statements: deleteReferences(theirs), counted: {} };
}

async function eraseEvents(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const names = new ErasedNames(erasure.names);
  const page = await pageEvents(db, erasure.workspaceId, names.all, erasure.place ?? []);
  const theirs: string[] = [];
  for (const { id, raw, r2Key } of page) {
    if (raw !== null && names.standIn(raw)) theirs.push(id);
    if (r2Key === null) continue;
    // What is too large for a row is one event, of one person.
    const text = await (await rt.env.MEDIA.get(r2Key))?.text();
    if (text === undefined || !names.standIn(text)) continue;
    await rt.env.MEDIA.delete(r2Key);
    theirs.push(id);
  }
  const last = page.at(-1);
  return {
    place: last && page.length === EVENT_PAGE ? [last.receivedAt, last.id] : null,
    statements: theirs.length === 0 ? [] : deleteListed("webhook_events", erasure.workspaceId, theirs),
    counted: { events: theirs.length },
  };
}

const webhookPart = z.looseObject({ kind: z.literal("webhook.part") });
const partBody = webhookPart.extend({ body: z.string() });
const partKey = webhookPart.extend({ r2Key: z.string() });

/** Work that was given up: what names the person is taken out of it, and the rest can still be replayed. */
async function eraseLetters(rt: Runtime, db: Db, erasure: Erasure): Promise<Step> {
  const names = new ErasedNames(erasure.names);
  const numbers = new Set((await selectNumbers(db, erasure.workspaceId)).map((number) => number.providerNumberId));
  const ids = [...erasure.contacts, ...erasure.threads.map((thread) => thread.id)];
  const page = await pageLetters(db, erasure.workspaceId, String(erasure.place?.[0] ?? ""));
  const gone: string[] = [];
  for (const { id, r2Key } of page) {
    const text = await (await rt.env.MEDIA.get(r2Key))?.text();
    if (text === undefined) continue;
    const job: unknown = JSON.parse(text);
    const large = partKey.safeParse(job);
    const part = partBody.safeParse(job);
    if (large.success) {
      const body = await (await rt.env.MEDIA.get(large.data.r2Key))?.text();
      if (body === undefined || !names.standIn(body)) continue;
      await rt.env.MEDIA.delete([large.data.r2Key, r2Key]);
      gone.push(id);
    } else if (part.success) {
      if (!names.standIn(part.data.body)) continue;
      await rt.env.MEDIA.put(r2Key, JSON.stringify({ ...part.data, body: pruned(part.data.body, names, numbers) }));
    } else if (names.standIn(text) || ids.some((own) => text.includes(own))) {
      // Work for this person alone: there is nothing to do any more.
      await rt.env.MEDIA.delete(r2Key);
      gone.push(id);
    }
  }
  const last = page.at(-1);
  return {
    place: last && page.length === LETTER_PAGE ? [last.id] : null,
    statements: gone.length === 0 ? [] : deleteListed("dead_letters", erasure.workspaceId, gone),
    counted: {},
  };
}

/** A body that is no JSON is about nobody else that could be known. */
function pruned(body: string, names: ErasedNames, numbers: ReadonlySet<string>): string {
  try {
    return JSON.stringify(withoutPerson(parseProviderJson(body), names, numbers));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return "{}";
  }
}

/** Once: later looks find no contact that could be in the index. */
async function eraseSearch(db: Db, erasure: Erasure): Promise<Step> {
  if (erasure.look > 1) return END;
  const more = await mergeSearchIndex(db, erasure.place === null);
  return { ...END, place: more ? [1] : null };
}
