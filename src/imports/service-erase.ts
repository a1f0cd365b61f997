/** Rows of files of contacts that name people who are erased. */
import type { Db } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import { ERASED_ROW, type Row, readRow } from "./rows";
import { changeRows, PART_ROWS, prefixOf } from "./staging";
import { selectNextImport } from "./store";

/**
 * Takes a person out of the stored rows of the import that comes after `after`: of one that is being applied they count
 * as refused, and no list of refused rows shows them. Answers that import's id, null after the last. May run twice.
 */
export async function eraseFromNextImport(
  rt: Runtime,
  db: Db,
  workspaceId: string,
  after: string,
  isPerson: (digits: string) => boolean,
): Promise<string | null> {
  const row = await selectNextImport(db, workspaceId, after);
  if (!row) return null;
  const change = (cells: Row): Row => {
    const read = readRow(cells, row.country);
    // A refused row names nobody for certain; who wrote their number into it is still recognised by its digits.
    const digits = read.ok ? read.digits : cells[0].replaceAll(/\D/g, "");
    return isPerson(digits) ? ERASED_ROW : cells;
  };
  for (let at = 0; at < row.totalRows; at += PART_ROWS) {
    await changeRows(rt.env.MEDIA, prefixOf(workspaceId, row.id), at, change);
  }
  return row.id;
}
