/**
 * One turn of a number's campaigns: as many recipients as its gate gives become messages, round-robin over the campaigns
 * that are sending. Whatever the turn was begun with is asked of the database again by the statements that take, so a turn
 * may run twice, at once, or end anywhere: nobody is taken twice, and whoever was not taken still waits.
 *
 * A pause takes effect at once for whoever waits, in the campaign or in the queue. Only what a consumer of the queue has
 * claimed at that moment runs to its end, its retries included; the turn keeps no more than a few seconds' worth between
 * itself and the provider.
 */
import { type BulkRow, bulkStatements, enqueueBulk, previewOf } from "../messages/service-bulk";
import type { PhoneNumber } from "../phone-numbers/service";
import { gateOf, messagesPerSecond, numbersById } from "../phone-numbers/service-pipeline";
import type { Db } from "../platform/d1";
import { callObject } from "../platform/objects";
import { type Runtime, shard } from "../platform/runtime";
import { type StoredTemplate, selectTemplatesById, unsendable } from "../templates/service";
import { countInterval, isStale, pauseSending, settleCampaign } from "./service-progress";
import { contentFor } from "./snapshot";
import { type Campaign, countOpenBulk, selectSending, selectWorkspaceStatus } from "./store";
import { type Candidate, selectCandidates, TAKEN_HERE, takeRecipients, type Verdict } from "./store-recipients";

/** Campaigns that take turns at once; those beyond come when one of these is done, or has had its turn. */
const CAMPAIGNS = 50;
/** ms until the next turn while there is somebody to send to. */
const TURN = 1000;
/** Messages made and not settled, in seconds of the number's throughput: what is in flight, and no heap before it. */
const IN_FLIGHT_SECONDS = 4;
/** Recipients of one turn at most: a number of 1,000 messages a second must not make a transaction of many seconds. */
const TURN_MOST = 1000;
/** After the last one was taken, results are waited for in turns this long (ms); then the cron goes on waiting. */
const WATCHED = 120_000;

interface Feeding {
  workspaceId: string;
  shard: number;
  phoneNumberId: string;
}

/** A turn, after which the gate is told when to give out the next job. Throws when a database or the gate did not answer. */
export async function feedNumber(rt: Runtime, feeding: Feeding): Promise<void> {
  const wanted = await takeTurn(rt, feeding);
  const gate = gateOf(rt, feeding.workspaceId, feeding.phoneNumberId);
  await callObject(() => gate.feedReported(wanted));
}

/** ms until the next turn; null when there is none to be had until something changes, which the cron or the gate notices. */
async function takeTurn(rt: Runtime, feeding: Feeding): Promise<number | null> {
  const { workspaceId, phoneNumberId } = feeding;
  const db = shard(rt, feeding.shard);
  const [numbers, sending] = await Promise.all([
    numbersById(db, [{ workspaceId, id: phoneNumberId }]),
    selectSending(db, workspaceId, phoneNumberId, CAMPAIGNS),
  ]);
  if (sending.length === 0) return null;
  const number = numbers.get(phoneNumberId) ?? null;
  const fit = await pauseUnfit(rt, db, number, sending);
  if (number === null || fit.length === 0) return null;
  if (number.status !== "active" || (await selectWorkspaceStatus(db, workspaceId)) !== "active") return null;
  const perSecond = messagesPerSecond(number);
  const gate = gateOf(rt, workspaceId, phoneNumberId);
  const share = await callObject(() => gate.share(perSecond, rt.clock()));
  const inFlight = perSecond * IN_FLIGHT_SECONDS;
  const open = await countOpenBulk(db, workspaceId, phoneNumberId, inFlight);
  const room = Math.min(share.count, TURN_MOST, inFlight - open);
  const ready = fit.filter(({ campaign }) => campaign.phase === null);
  const drained = room > 0 ? await feedAll(rt, db, feeding.shard, number, ready, room) : new Set<string>();
  const waits = await settleAll(rt, db, ready, drained);
  // Preparing ones are about to be ready.
  if (ready.length < fit.length) waits.push(TURN);
  if (share.closed !== null) return null;
  return waits.length === 0 ? null : Math.min(...waits);
}

interface Fit {
  campaign: Campaign;
  template: StoredTemplate;
}

/** Pauses the campaigns that must not go on, and says why. Answers the others. */
async function pauseUnfit(
  rt: Runtime,
  db: Db,
  number: PhoneNumber | null,
  sending: readonly Campaign[],
): Promise<Fit[]> {
  const keys = sending.map(({ workspaceId, templateId }) => ({ workspaceId, id: templateId ?? "" }));
  const templates = new Map((await selectTemplatesById(db, keys)).map((template) => [template.id, template]));
  const fit: Fit[] = [];
  for (const campaign of sending) {
    const template = templates.get(campaign.templateId ?? "");
    const reason = unfitness(campaign, number, template);
    if (reason !== null) await pauseSending(rt, db, campaign, reason);
    else if (template) fit.push({ campaign, template });
  }
  return fit;
}

function unfitness(
  campaign: Campaign,
  number: PhoneNumber | null,
  template: StoredTemplate | undefined,
): string | null {
  if (number === null) return "The phone number was deleted";
  // Whoever starts a campaign on a number that is RED already knows it.
  if (number.qualityRating === "RED" && !campaign.redAccepted)
    return "The quality rating of the phone number turned RED";
  return template ? unsendable(template) : "The template was deleted";
}

/** Takes up to `room` recipients of these campaigns. Answers the campaigns in which nobody waits any more. */
async function feedAll(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  number: PhoneNumber,
  ready: readonly Fit[],
  room: number,
): Promise<Set<string>> {
  const drained = new Set<string>();
  if (ready.length === 0) return drained;
  const waiting = await selectCandidates(
    db,
    ready.map(({ campaign }) => campaign),
    room,
  );
  const quotas = shareOut(
    waiting.map((candidates) => candidates.length),
    room,
  );
  for (const [place, fit] of ready.entries()) {
    const candidates = waiting[place] ?? [];
    const quota = quotas[place] ?? 0;
    if (candidates.length === quota && quota < room) drained.add(fit.campaign.id);
    if (quota > 0) await take(rt, db, shardNumber, number, fit, candidates.slice(0, quota));
  }
  return drained;
}

/** `room` in turns of one, to whoever still has somebody: nobody waits for a larger campaign to end. */
export function shareOut(waiting: readonly number[], room: number): number[] {
  const quotas = waiting.map(() => 0);
  let left = room;
  let open = waiting.flatMap((n, place) => (n > 0 ? [place] : []));
  while (left > 0 && open.length > 0) {
    const each = Math.max(1, Math.floor(left / open.length));
    for (const place of open) {
      const more = Math.min(each, left, (waiting[place] ?? 0) - (quotas[place] ?? 0));
      quotas[place] = (quotas[place] ?? 0) + more;
      left -= more;
    }
    open = open.filter((place) => (quotas[place] ?? 0) < (waiting[place] ?? 0));
  }
  return quotas;
}

/** One transaction: recipients taken, their messages made, both or neither; then the jobs, which the sweep repairs. */
async function take(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  number: PhoneNumber,
  fit: Fit,
  candidates: readonly Candidate[],
): Promise<void> {
  const now = rt.clock();
  const decided = candidates.map((candidate) => decide(rt, number, fit, candidate, now));
  const rows = decided.flatMap(({ row }) => row ?? []);
  const results = await db.batch([
    ...takeRecipients(
      fit.campaign,
      decided.map(({ verdict }) => verdict),
      now,
    ),
    ...(rows.length === 0 ? [] : bulkStatements(rows, now, TAKEN_HERE)),
  ]);
  if (rows.length > 0) await enqueueBulk(rt, shardNumber, results.at(-1)?.results ?? []);
}

interface Decided {
  verdict: Verdict;
  row: BulkRow | null;
}

/** What becomes of a recipient now: what was frozen, held against who they are today. */
function decide(rt: Runtime, number: PhoneNumber, fit: Fit, candidate: Candidate, now: number): Decided {
  const { campaign, template } = fit;
  const { asked, before, who } = candidate;
  const without = (state: Verdict["state"], reason: string | null): Decided => ({
    verdict: { asked, before, who, state, reason, messageId: null },
    row: null,
  });
  // The earlier message got through after all, or is on its way again: somebody retried it by itself.
  if (candidate.before_status !== null && !["failed", "cancelled"].includes(candidate.before_status)) {
    return without("taken", null);
  }
  const reason = leftOut(candidate, campaign);
  if (reason !== null || who === null) return without("skipped", reason);
  const { snapshot } = campaign;
  if (snapshot === null) throw new Error("A campaign is sending and nothing was frozen");
  const filling = contentFor(template, snapshot, candidate.fields);
  if (!filling.ok) return without("failed", filling.msg);
  const toNumber = candidate.phone_number ?? (candidate.wa_id === null ? null : `+${candidate.wa_id}`);
  const id = rt.newId();
  return {
    verdict: { asked, before, who, state: "taken", reason: null, messageId: id },
    row: {
      message: {
        workspaceId: campaign.workspaceId,
        id,
        phoneNumberId: number.id,
        contactId: who,
        type: "template",
        content: filling.content,
        toNumber,
        toUser: toNumber === null ? candidate.user_id : null,
        fromNumber: number.phoneNumber,
        category: filling.category,
        expiresAt: now + (filling.ttl ?? rt.config.PIPELINE.messageTtl),
      },
      preview: previewOf("template", filling.content),
      conversation: { id: rt.newId(), peer: candidate.peer ?? toNumber?.slice(1) ?? candidate.user_id ?? "" },
      given: { campaign: campaign.id, asked },
    },
  };
}

function leftOut(candidate: Candidate, { snapshot }: Campaign): string | null {
  if (candidate.who === null || candidate.deleted_at !== null) return "deleted";
  if (candidate.twice === 1) return "duplicate";
  if (snapshot?.template.category === "MARKETING") {
    if (candidate.opted_out_at !== null) return "opted_out";
    if (candidate.opted_in === 0) return "not_opted_in";
  }
  const { phone_number, wa_id, user_id, kind } = candidate;
  return kind !== "person" || (phone_number === null && wa_id === null && user_id === null) ? "no_address" : null;
}

/** Counts whose time has come, and ms until each campaign that still sends wants its next turn. */
async function settleAll(rt: Runtime, db: Db, ready: readonly Fit[], drained: ReadonlySet<string>): Promise<number[]> {
  const waits: number[] = [];
  for (const { campaign } of ready) {
    const now = rt.clock();
    const done = drained.has(campaign.id);
    const counted = isStale(campaign, now) ? await settleCampaign(rt, db, campaign, { drained: done }) : campaign;
    if (counted.status !== "sending") continue;
    if (!done || counted.feedPlace === "") waits.push(TURN);
    else if (campaign.fedAt === 0) waits.push(countInterval(counted));
    // The longer results take, the less often they are looked for.
    else if (now - campaign.fedAt < WATCHED) waits.push(Math.max(countInterval(counted), (now - campaign.fedAt) / 10));
  }
  return waits;
}
