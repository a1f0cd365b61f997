/** Bringing what the provider has into a workspace. */
import type { WorkspaceScope } from "../auth/guard";
import { accepted, openConnection, type PhoneNumber, resolveNumber } from "../phone-numbers/service";
import { withAccount } from "../phone-numbers/service-account";
import type { Db } from "../platform/d1";
import { invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import type { ProviderTemplate } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { knownTemplate } from "./service-submit";
import { isLeaving } from "./states";
import { updateUnlisted, upsertKnown } from "./store-known";

/** Meta's largest accounts hold 6,000 templates; a page has 50. */
const MAX_PAGES = 150;

export interface Synced {
  number: PhoneNumber & { businessId: string };
  fetched: number;
  created: number;
  updated: number;
  gone: number;
  complete: boolean;
}

/**
 * Pulls every template of a number's account. Pages are stored as they come, so a provider that stops answering leaves
 * what it gave. Only a complete list tells what is gone. Throws when not even the first page came.
 */
export async function syncTemplates(scope: WorkspaceScope, phoneNumberId: string | null): Promise<Synced> {
  const { rt, db, workspaceId } = scope;
  const named = await resolveNumber(db, workspaceId, phoneNumberId);
  if (!named) throw invalidField(["body", "phone_number_id"], "Phone number not found in this workspace");
  const number = await withAccount(rt, db, named);
  const provider = providerFor(rt, number.provider);
  const connection = await openConnection(rt, number);
  const startedAt = rt.clock();
  const synced: Synced = { number, fetched: 0, created: 0, updated: 0, gone: 0, complete: true };
  let after: string | null = null;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const askedAt = rt.clock();
    const answer = await provider.listTemplates(connection, { name: null, after });
    if (page > 0 && !answer.ok) return { ...synced, complete: false };
    const { templates, unreadable, after: next } = accepted(answer);
    const { created, updated } = await storeListed(rt, db, number, templates, askedAt);
    synced.fetched += templates.length;
    synced.created += created;
    synced.updated += updated;
    if (unreadable > 0) synced.complete = false;
    after = next;
    if (after === null) break;
  }
  if (after !== null) synced.complete = false;
  if (synced.complete) synced.gone = await updateUnlisted(db, workspaceId, number.businessId, startedAt);
  return synced;
}

/** Stores templates of a number's account, all of them or none. What is on its way out is not brought in. */
export async function storeListed(
  rt: Runtime,
  db: Db,
  number: PhoneNumber & { businessId: string },
  listed: readonly ProviderTemplate[],
  askedAt: number,
): Promise<{ created: number; updated: number }> {
  const rows = listed
    .filter(({ status }) => !isLeaving(status))
    .map((template) =>
      knownTemplate(
        { workspaceId: number.workspaceId, businessId: number.businessId, phoneNumberId: number.id, id: rt.newId() },
        template,
      ),
    );
  const results = await db.batch(upsertKnown(rows, askedAt));
  const written = results.flatMap((result) => result.results.map((row) => String(row.id)));
  const minted = new Set(rows.map(({ id }) => id));
  const created = written.filter((id) => minted.has(id)).length;
  return { created, updated: written.length - created };
}
