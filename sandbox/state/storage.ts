/** What the stores need of the object: both of its interfaces are synchronous, so a command commits as one. */
export type Storage = Pick<DurableObjectStorage, "sql" | "kv">;

/** Milliseconds since the epoch. */
export type Clock = () => number;

const TABLES = [
  // What was really accepted, in order.
  `CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, phone_id TEXT NOT NULL, waba_id TEXT NOT NULL,
    recipient TEXT NOT NULL, wa_id TEXT, user_id TEXT, to_group INTEGER NOT NULL, type TEXT NOT NULL, category TEXT NOT NULL,
    callback TEXT, callback_prefix TEXT, body TEXT NOT NULL, accepted_at INTEGER NOT NULL)`,
  // Read receipts and typing indicators.
  `CREATE TABLE IF NOT EXISTS reads (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, phone_id TEXT NOT NULL, message_id TEXT NOT NULL, typing INTEGER NOT NULL, at INTEGER NOT NULL)`,
  // When a customer last wrote to a number: the service window.
  `CREATE TABLE IF NOT EXISTS windows (phone_id TEXT NOT NULL, customer TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (phone_id, customer)) WITHOUT ROWID`,
  // Webhook items; settled once the app answered 200.
  `CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, waba_id TEXT NOT NULL, phone_id TEXT, field TEXT NOT NULL, list TEXT,
    item TEXT NOT NULL, contacts TEXT, created_at INTEGER NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    last_status INTEGER, settled_at INTEGER)`,
  `CREATE INDEX IF NOT EXISTS outbox_open ON outbox (due, seq) WHERE settled_at IS NULL`,
  `CREATE TABLE IF NOT EXISTS media (
    id TEXT PRIMARY KEY, phone_id TEXT NOT NULL, mime_type TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
    filename TEXT, created_at INTEGER NOT NULL) WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS templates (
    id TEXT PRIMARY KEY, waba_id TEXT NOT NULL, name TEXT NOT NULL, language TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT, draft TEXT NOT NULL, review_at INTEGER, approved_once INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,
    deleted_at INTEGER) WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID`,
];

const NAMES = ["messages", "reads", "windows", "outbox", "media", "templates", "counters"];

export function createTables(storage: Storage): void {
  for (const statement of TABLES) storage.sql.exec(statement);
}

/** Forgets everything; the sequence numbers start again as well. */
export function clearTables(storage: Storage): void {
  for (const name of NAMES) storage.sql.exec(`DELETE FROM ${name}`);
  storage.sql.exec("DELETE FROM sqlite_sequence");
  for (const [key] of [...storage.kv.list()]) storage.kv.delete(key);
}

export function count(storage: Storage, name: string): void {
  storage.sql.exec("INSERT INTO counters (name, n) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1", name);
}

/** Counters whose name begins with `prefix`, without it. */
export function counters(storage: Storage, prefix: string): Record<string, number> {
  const rows = storage.sql.exec<{ name: string; n: number }>(
    "SELECT name, n FROM counters WHERE name >= ?1 AND name < ?1 || char(1114111) ORDER BY name",
    prefix,
  );
  return Object.fromEntries([...rows].map(({ name, n }) => [name.slice(prefix.length), n]));
}
