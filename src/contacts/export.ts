import type { Db } from "../platform/d1";
import type { ContactFilter } from "./search";
import type { Contact } from "./store";
import { pageContacts } from "./store-contacts";

const COLUMNS = ["phone", "name", "tags", "opted_in", "wa_id", "user_id", "username", "created_at"] as const;

/** A CSV cell (RFC 4180). What a spreadsheet would run as a formula is defused with an apostrophe (OWASP: CSV injection). */
export function csvCell(value: string): string {
  const defused = /^[=@\t\r]|^[+-](?!\d+$)/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(defused) ? `"${defused.replaceAll('"', '""')}"` : defused;
}

function line(contact: Contact): string {
  return [
    contact.phoneNumber ?? "",
    contact.name ?? "",
    contact.tags.join(";"),
    String(contact.optedIn),
    contact.waId ?? "",
    contact.userId ?? "",
    contact.username ?? "",
    new Date(contact.createdAt).toISOString(),
  ]
    .map(csvCell)
    .join(",");
}

/** All contacts that match, page by page as the reader takes them: memory stays that of one page. */
export function exportContacts(db: Db, workspaceId: string, filter: ContactFilter): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let cursor: string | undefined;
  let begun = false;
  return new ReadableStream({
    async pull(controller) {
      if (!begun) {
        begun = true;
        // The byte order mark tells Excel that the file is UTF-8.
        controller.enqueue(encoder.encode(`\u{FEFF}${COLUMNS.join(",")}\r\n`));
      }
      const page = await pageContacts(db, workspaceId, filter, { limit: 500, offset: 0, cursor });
      if (page.rows.length > 0) controller.enqueue(encoder.encode(`${page.rows.map(line).join("\r\n")}\r\n`));
      cursor = page.nextCursor ?? undefined;
      if (cursor === undefined) controller.close();
    },
  });
}
