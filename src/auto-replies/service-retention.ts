import type { Db } from "../platform/d1";
import { deleteOldFirings } from "./store-firings";

/** Longer than the longest cool-down. ms */
const KEPT = 31 * 86_400_000;
/** Statements of one night. */
const CHUNKS = 50;

/** Deletes firings that no cool-down looks at any more, and hand-overs that ended. Bounded; the next night goes on. */
export async function purgeFirings(db: Db, now: number): Promise<void> {
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    if (!(await deleteOldFirings(db, now - KEPT, now))) return;
  }
}
