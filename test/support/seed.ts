/** Large amounts of rows for the tests that count: one set-based INSERT per table, so that 100,000 messages take a second. */

export interface Seed {
  workspaceId: string;
  phoneNumberId: string;
  messages: number;
  /** Threads the messages are spread over; 2,000 unless given. */
  conversations?: number;
  /** ms of the oldest message; each later one is a second younger. */
  from?: number;
  /** Messages stored by earlier calls for the same workspace; then its people and threads are there already. */
  after?: number;
}

export interface Seeded {
  conversations: number;
  /** Digits of the n-th contact, its conversation and the n-th message of all. */
  digits(n: number): string;
  conversationId(n: number): string;
  contactId(n: number): string;
  messageId(n: number): string;
  wamid(n: number): string;
}

/** A UUID (version 7 by its shape) that grows with `n`; `kind` keeps the tables' ids apart. */
function idSql(kind: string, n: string): string {
  return `printf('01900000-%04x-7%s-8000-%012x', ${n} >> 16, '${kind}', ${n})`;
}

function idOf(kind: string, n: number): string {
  const hex = (value: number, width: number) => value.toString(16).padStart(width, "0");
  return `01900000-${hex(n >> 16, 4)}-7${kind}-8000-${hex(n, 12)}`;
}

/**
 * Stores contacts, conversations and messages as the pipelines would have left them: every second message inbound, the
 * outbound ones read. The n-th message belongs to the conversation `n % conversations`.
 */
export async function seedMessages(database: D1Database, seed: Seed): Promise<Seeded> {
  const conversations = Math.min(seed.conversations ?? 2_000, seed.messages);
  const from = seed.from ?? Date.parse("2026-01-01T00:00:00Z");
  const after = seed.after ?? 0;
  const last = from + seed.messages * 1000;
  const numbers = (count: number, first = 0) =>
    `WITH RECURSIVE n(i) AS (SELECT ${first} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${first + count})`;
  const ws = seed.workspaceId;
  // Digits no other seed of this database has: identities are unique in a workspace only, provider ids in a number.
  const digits = "printf('4930%09d', i)";
  const people = [
    database
      .prepare(
        `${numbers(conversations)} INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, source, created_at, updated_at)
         SELECT ?1, ${idSql("c01", "i")}, 'person', '+' || ${digits}, ${digits}, 'Customer ' || ${digits}, '[]', 0, 'message', ${from}, ${from} FROM n`,
      )
      .bind(ws),
    ...["wa", "phone"].map((kind) =>
      database
        .prepare(
          `${numbers(conversations)} INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
           SELECT ?1, '${kind}', ${digits}, ${idSql("c01", "i")} FROM n`,
        )
        .bind(ws),
    ),
    database
      .prepare(
        `${numbers(conversations)} INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_id, last_message_at,
           last_message_direction, last_message_preview, unread_count, message_count, last_inbound_at, status, created_at, updated_at)
         SELECT ?1, ${idSql("c02", "i")}, ?2, ${idSql("c01", "i")}, ${digits}, NULL, ${last} - i * 1000, 'inbound', 'Hello', i % 2,
           ${Math.ceil(seed.messages / conversations)}, ${last}, 'open', ${from}, ${from} FROM n`,
      )
      .bind(ws, seed.phoneNumberId),
  ];
  await database.batch([
    ...(after === 0 ? people : []),
    database
      .prepare(
        `${numbers(seed.messages, after)} INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type,
           content, status, wa_message_id, from_number, to_number, lane, seq, not_before, attempts, failures, at, received_at, position, created_at,
           sent_at, delivered_at, read_at)
         SELECT ?1, ${idSql("c03", "i")}, ?2, ${idSql("c02", `(i % ${conversations})`)}, ${idSql("c01", `(i % ${conversations})`)},
           iif(i % 2, 'outbound', 'inbound'), iif(i % 2, 'api', 'live'), 'text', json_object('body', 'Message number ' || i || ' of a long history'),
           iif(i % 2, 'read', 'delivered'), 'wamid.seed-' || i, iif(i % 2, NULL, '+' || printf('4930%09d', i % ${conversations})),
           iif(i % 2, '+' || printf('4930%09d', i % ${conversations}), NULL), 'chat', 0, 0, i % 2, 0, ${from} + i * 1000, ${from} + i * 1000, 0,
           ${from} + i * 1000, iif(i % 2, ${from} + i * 1000, NULL), iif(i % 2, ${from} + i * 1000, NULL), iif(i % 2, ${from} + i * 1000, NULL) FROM n`,
      )
      .bind(ws, seed.phoneNumberId),
    ...(after === 0 ? ["messages", "conversations", "contacts"] : ["messages"]).map((list) =>
      database
        .prepare(
          `INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, '${list}', ?2) ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
        )
        .bind(ws, list === "messages" ? seed.messages : conversations),
    ),
  ]);
  return {
    conversations,
    digits: (n) => `4930${String(n % conversations).padStart(9, "0")}`,
    conversationId: (n) => idOf("c02", n % conversations),
    contactId: (n) => idOf("c01", n % conversations),
    messageId: (n) => idOf("c03", n),
    wamid: (n) => `wamid.seed-${n}`,
  };
}
