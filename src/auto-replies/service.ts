/** The verbs of auto-replies. */
import type { z } from "@hono/zod-openapi";
import type { WorkspaceScope } from "../auth/guard";
import { sendInteractiveBody } from "../messages/service-interactive";
import { resolveNumber } from "../phone-numbers/service";
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import { fillPlaces, type KnownContact, unknownPlace } from "./fields";
import { isTimeZone } from "./hours";
import { fits, type Said } from "./match";
import { compilePattern } from "./pattern";
import type { changeAutoReplyBody, createAutoReplyBody, testBody } from "./schema";
import { type Answer, CONTACT_FIELDS, type Match } from "./schema";
import {
  insertRule,
  MAX_RULES,
  type Rule,
  type RuleChange,
  selectRule,
  selectRules,
  updateOrder,
  updateRule,
} from "./store";
import { selectContact } from "./store-contact";

const MINUTE = 60_000;
const SECOND = 1000;

/** Our id of a number of the workspace. */
async function numberId(db: Db, workspaceId: string, named: string | null): Promise<string | null> {
  if (named === null) return null;
  const number = await resolveNumber(db, workspaceId, named);
  if (!number) throw invalidField(["body", "phone_number_id"], "Phone number not found in this workspace");
  return number.id;
}

/** What the shape of a rule does not say: patterns compile, time zones exist, places name something, messages can be sent. */
function checkRule(match: Match | undefined, answer: Answer | undefined): void {
  if (match?.kind === "pattern") {
    const compiled = compilePattern(match.pattern, match.case_sensitive);
    if (!compiled.ok) throw invalidField(["body", "match", "pattern"], compiled.msg);
  }
  if (match?.kind === "outside_hours" && !isTimeZone(match.time_zone)) {
    throw invalidField(["body", "match", "time_zone"], "Must be a time zone such as Europe/Berlin");
  }
  const place = unknownPlace(answer);
  if (place !== null) {
    const known = CONTACT_FIELDS.map((name) => `{{contact.${name}}}`).join(", ");
    throw invalidField(["body", "answer"], `Nothing is known as ${place}: use ${known}`);
  }
  if (answer?.kind === "interactive") {
    const sample = fillPlaces(answer.interactive, { name: "Ann", username: "ann", phoneNumber: "+12025550100" });
    const issue = sendInteractiveBody.shape.interactive.safeParse(sample).error?.issues[0];
    if (issue) throw invalidField(["body", "answer", "interactive", ...issue.path.map(String)], issue.message);
  }
}

/** Makes a rule, behind the others. */
export async function createRule(
  { rt, db, workspaceId }: WorkspaceScope,
  body: z.output<typeof createAutoReplyBody>,
): Promise<Rule> {
  checkRule(body.match, body.answer);
  const now = rt.clock();
  const rule = await insertRule(db, {
    workspaceId,
    id: rt.newId(),
    name: body.name,
    phoneNumberId: await numberId(db, workspaceId, body.phone_number_id),
    enabled: body.enabled,
    match: body.match,
    answer: body.answer,
    cooldown: body.cooldown_seconds * SECOND,
    dailyLimit: body.daily_limit,
    quiet: body.quiet_minutes * MINUTE,
    createdAt: now,
    updatedAt: now,
  });
  if (!rule) throw new AppError("conflict", `A workspace has at most ${MAX_RULES} auto-replies`);
  return rule;
}

/** Changes a rule; members left out stay. */
export async function changeRule(
  { rt, db }: WorkspaceScope,
  rule: Rule,
  body: z.output<typeof changeAutoReplyBody>,
): Promise<Rule> {
  checkRule(body.match, body.answer);
  const change: RuleChange = {
    name: body.name,
    enabled: body.enabled,
    match: body.match,
    answer: body.answer,
    cooldown: body.cooldown_seconds === undefined ? undefined : body.cooldown_seconds * SECOND,
    dailyLimit: body.daily_limit,
    quiet: body.quiet_minutes === undefined ? undefined : body.quiet_minutes * MINUTE,
    phoneNumberId:
      body.phone_number_id === undefined ? undefined : await numberId(db, rule.workspaceId, body.phone_number_id),
  };
  const changed = await updateRule(db, rule, change, rt.clock());
  if (!changed) throw new AppError("not_found", "Resource not found");
  return changed;
}

/** Puts rules in order. A 422 names an id that is none of the workspace's. */
export async function orderRules({ rt, db, workspaceId }: WorkspaceScope, ids: readonly string[]): Promise<Rule[]> {
  const known = new Set((await selectRules(db, workspaceId)).map((rule) => rule.id));
  const strange = ids.findIndex((id, at) => !known.has(id) || ids.indexOf(id) !== at);
  if (strange >= 0) throw invalidField(["body", "ids", strange], "Must be a rule of this workspace, named once");
  return updateOrder(db, workspaceId, ids, rt.clock());
}

export interface DryRun {
  rule: Rule | null;
  answer: Record<string, unknown> | null;
  considered: { rule: Rule; matched: boolean }[];
}

/** What would be answered to a message, by the rules alone: nothing is sent, counted, or asked of an assistant. */
export async function testRules(
  { rt, db, workspaceId }: WorkspaceScope,
  body: z.output<typeof testBody>,
): Promise<DryRun> {
  const rules = await rulesToTest(db, workspaceId, body.rule_id);
  const named = await numberId(db, workspaceId, body.phone_number_id ?? null);
  const contact = await contactOf(db, workspaceId, body.contact_id);
  const said: Said = {
    type: body.type,
    content: {
      ...(body.text === undefined ? {} : { body: body.text, caption: body.text }),
      ...(body.reply_id === undefined ? {} : { button_reply: { id: body.reply_id, title: body.text } }),
    },
    at: body.at ?? rt.clock(),
    first: body.first_message,
  };
  const considered = rules
    .filter((rule) => named === null || rule.phoneNumberId === null || rule.phoneNumberId === named)
    .map((rule) => ({ rule, matched: fits(rule.match, said) }));
  const rule = considered.find(({ matched }) => matched)?.rule ?? null;
  return { rule, answer: rule && fillPlaces(rule.answer, contact), considered };
}

async function rulesToTest(db: Db, workspaceId: string, id: string | undefined): Promise<Rule[]> {
  if (id === undefined) return (await selectRules(db, workspaceId)).filter((rule) => rule.enabled);
  const rule = await selectRule(db, [workspaceId], id);
  if (!rule) throw invalidField(["body", "rule_id"], "Must be a rule of this workspace");
  return [rule];
}

async function contactOf(db: Db, workspaceId: string, id: string | undefined): Promise<KnownContact> {
  if (id === undefined) return { name: null, username: null, phoneNumber: null };
  const contact = await selectContact(db, workspaceId, id);
  if (!contact) throw invalidField(["body", "contact_id"], "Contact not found in this workspace");
  return contact;
}
