/** What webhooks say of templates, as statements of the inbound batch. */
import { isoSeconds } from "../platform/clock";
import type { Statement } from "../platform/d1";
import type { TemplateUpdate } from "../providers/provider";
import { categoryOf, isLeaving, statusOf } from "./states";
import { type TemplateChange, updateFromWebhooks } from "./store-webhooks";

/** An update on its way into a workspace. */
export interface ArrivedUpdate {
  workspaceId: string;
  /** The account the webhook names. */
  businessId: string | null;
  /** ms; dates an update that carries no time of its own. */
  receivedAt: number;
  /** Place within its POST: the tie-breaker of two updates of one second. */
  position: number;
  update: TemplateUpdate;
}

/** The statements of these updates, folded per template: the latest word on its status, the last on everything else. */
export function templateStatements(updates: readonly ArrivedUpdate[], now: number): Statement[] {
  const changes = new Map<string, TemplateChange>();
  const ordered = [...updates].sort((a, b) => timeOf(a) - timeOf(b) || a.position - b.position);
  for (const arrived of ordered) {
    const key = `${arrived.workspaceId} ${arrived.update.id}`;
    changes.set(key, folded(changes.get(key) ?? unchanged(arrived), arrived));
  }
  return updateFromWebhooks([...changes.values()], now);
}

function timeOf({ update, receivedAt }: ArrivedUpdate): number {
  return update.at ?? receivedAt;
}

function unchanged({ workspaceId, businessId, update }: ArrivedUpdate): TemplateChange {
  return {
    ws: workspaceId,
    id: update.id,
    biz: businessId,
    name: update.name,
    lang: update.language,
    leaving: false,
    status: null,
    quality: null,
    category: null,
    texts: null,
    ask: false,
  };
}

function folded(before: TemplateChange, arrived: ArrivedUpdate): TemplateChange {
  const { status, qualityScore, category, texts, name, language } = arrived.update;
  const documented = status && statusOf(status.word);
  return {
    ...before,
    name: name ?? before.name,
    lang: language ?? before.lang,
    leaving: before.leaving || (status !== null && isLeaving(status.word)),
    status:
      status === null || documented === null
        ? before.status
        : {
            at: timeOf(arrived),
            status: documented,
            word: status.word,
            reason: documented === "REJECTED" ? (status.reason ?? status.word) : null,
            note: documented === "REJECTED" ? null : status.reason,
          },
    quality: qualityScore ?? before.quality,
    category: category === null ? before.category : { category: categoryOf(category.now), note: noteOf(category) },
    texts: texts === null ? before.texts : { ...before.texts, ...texts },
    // Buttons, media and examples of an edited template are not in its webhook; nor what an unarchived one is now.
    ask: before.ask || texts !== null || status?.word === "UNARCHIVED",
  };
}

function noteOf({ announced }: NonNullable<TemplateUpdate["category"]>): string | null {
  if (announced === null) return null;
  const when = announced.at === null ? "soon" : `on ${isoSeconds(announced.at)}`;
  return `The provider will make its category ${announced.category} ${when}`;
}
