/** Contacts for the bench: many at once, and as the bare statements an import is measured against. */

const FROM = Date.parse("2026-01-01T00:00:00Z");

/** `rows` contacts after the first `after`; every thousandth has the tag `rare`, every second one opted in. */
export async function seedContacts(database: D1Database, workspaceId: string, rows: number, after: number) {
  const numbers = `WITH RECURSIVE n(i) AS (SELECT ${after} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${after + rows})`;
  const id = "printf('01900000-%04x-7c01-8000-%012x', i >> 16, i)";
  const digits = "printf('4930%09d', i)";
  await database.batch([
    database
      .prepare(
        `${numbers} INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, source, created_at, updated_at)
         SELECT ?1, ${id}, 'person', '+' || ${digits}, ${digits}, 'Customer ' || i, iif(i % 1000, '["bench"]', '["bench","rare"]'), i % 2,
           'import', ${FROM} + i, ${FROM} + i FROM n`,
      )
      .bind(workspaceId),
    database
      .prepare(
        `${numbers} INSERT INTO contact_identities (workspace_id, kind, value, contact_id) SELECT ?1, 'phone', ${digits}, ${id} FROM n`,
      )
      .bind(workspaceId),
    database
      .prepare(
        `INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'contacts', ?2)
         ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      )
      .bind(workspaceId, rows),
  ]);
}

const CHUNK = 1000;

/** The rows of an import, written and nothing else: contact, name, total. */
export async function upsertBare(database: D1Database, workspaceId: string, prefix: string, rows: number) {
  for (let start = 0; start < rows; start += CHUNK) {
    const chunk = Array.from({ length: CHUNK }, (_, n) => ({
      id: crypto.randomUUID(),
      d: `${prefix}${String(start + n).padStart(7, "0")}`,
      name: `Customer ${start + n}`,
      tags: ["bench", "bare"],
    }));
    const json = JSON.stringify(chunk);
    await database.batch([
      database
        .prepare(
          `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, source, created_at, updated_at)
           SELECT ?1, j.value ->> 'id', 'person', '+' || (j.value ->> 'd'), j.value ->> 'd', j.value ->> 'name', json(j.value -> 'tags'), 1, 'import',
             ${FROM}, ${FROM} FROM json_each(?2) j WHERE true
           ON CONFLICT (workspace_id, id) DO UPDATE SET name = excluded.name, tags = excluded.tags, updated_at = excluded.updated_at`,
        )
        .bind(workspaceId, json),
      database
        .prepare(
          `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
           SELECT ?1, 'phone', j.value ->> 'd', j.value ->> 'id' FROM json_each(?2) j WHERE true
           ON CONFLICT (workspace_id, kind, value) DO UPDATE SET contact_id = excluded.contact_id`,
        )
        .bind(workspaceId, json),
      database
        .prepare(
          `INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'contacts', ?2)
           ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
        )
        .bind(workspaceId, CHUNK),
    ]);
  }
}
