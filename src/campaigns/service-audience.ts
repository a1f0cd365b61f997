/** Who an audience means. */
import { matchOf } from "../contacts/service-search";
import { invalidField } from "../platform/errors";
import type { Audience } from "./schema";
import type { Walk } from "./store-audience";

/**
 * The walk over an audience's contacts; without one, over all who opted in. Throws 422 for groups: contacts have none
 * until groups exist.
 */
export function walkOf(workspaceId: string, audience: Audience | null): Walk {
  if (audience === null) return { kind: "opted_in" };
  if ("all" in audience) return { kind: "all" };
  if ("contact_ids" in audience) return { kind: "ids", contactIds: audience.contact_ids };
  if ("tags" in audience) {
    return { kind: "tags", match: matchOf(workspaceId, { tags: audience.tags, optedIn: null, search: null }) };
  }
  throw invalidField(["body", "audience", "group_ids"], "This workspace has no groups: name contacts or tags");
}
