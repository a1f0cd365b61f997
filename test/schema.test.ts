import { env } from "cloudflare:workers";
import { is } from "drizzle-orm";
import { getTableConfig, SQLiteTable } from "drizzle-orm/sqlite-core";
import { describe, expect, it } from "vitest";

/**
 * drizzle-kit drops WITHOUT ROWID, partial indexes, triggers and full-text tables when it rebuilds a table (pipeline
 * 20). What the migrations add up to stands in fixtures/schema-*.sql: a migration that changes the schema changes the
 * listing too, where it is read.
 */
const listings = import.meta.glob<string>("./fixtures/schema-*.sql", { eager: true, query: "?raw", import: "default" });
const modules = import.meta.glob<Record<string, unknown>>("../src/*/*tables.ts", { eager: true });

const databases = { directory: env.DIRECTORY, shard: env.SHARD_0 };
type DatabaseName = keyof typeof databases;

interface SchemaRow {
  type: string;
  name: string;
  tbl_name: string;
  sql: string | null;
}

/** Tables of the platform and the shadows of full-text tables: nobody of ours declares them. */
async function schemaOf(database: D1Database): Promise<SchemaRow[]> {
  const { results } = await database
    .prepare(
      `SELECT type, name, tbl_name, sql FROM sqlite_master m WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND tbl_name <> 'd1_migrations'
         AND NOT EXISTS (SELECT 1 FROM sqlite_master f WHERE f.sql LIKE 'CREATE VIRTUAL TABLE%' AND m.name LIKE f.name || '\\_%' ESCAPE '\\' AND m.type = 'table')
       ORDER BY tbl_name, type = 'table' DESC, type, name`,
    )
    .all<SchemaRow>();
  return results;
}

/** A statement without the freedoms of writing: quotes, white space, line breaks; a line per column. */
function normalised(sql: string): string {
  const flat = sql
    .replaceAll(/[`"]/g, "")
    .replaceAll(/\s+/g, " ")
    .replaceAll(/\s*([(),])\s*/g, "$1");
  let depth = 0;
  let text = "";
  for (const char of flat) {
    if (char === "(") depth += 1;
    if (char === ")") depth -= 1;
    if (char === ")" && depth === 0 && /^CREATE TABLE/.test(flat)) text += "\n";
    text += char;
    if (char === "(" && depth === 1 && /^CREATE TABLE/.test(flat)) text += "\n  ";
    if (char === "," && depth === 1) text += /^CREATE TABLE/.test(flat) ? "\n  " : " ";
  }
  return `${text.trim().replaceAll(/\)(?=[A-Za-z])/g, ") ")};`;
}

/** Every table that the code declares, by name. */
const declared = new Map(
  Object.values(modules)
    .flatMap((exported) => Object.values(exported))
    .filter((value): value is SQLiteTable => is(value, SQLiteTable))
    .map((table) => [getTableConfig(table).name, getTableConfig(table)]),
);

describe.each(Object.keys(databases) as DatabaseName[])("the %s database after all migrations", (name) => {
  it("has exactly the committed schema", async () => {
    const schema = (await schemaOf(databases[name])).flatMap(({ sql }) => (sql === null ? [] : [normalised(sql)]));
    expect(`${schema.join("\n")}\n`).toBe(listings[`./fixtures/schema-${name}.sql`]);
  });

  it("has the columns, types, keys and null rules that the code declares", async () => {
    for (const { name: table, type, sql } of await schemaOf(databases[name])) {
      if (type !== "table" || sql?.startsWith("CREATE VIRTUAL")) continue;
      const config = declared.get(table);
      expect(config, `${table} is declared in a tables.ts`).toBeDefined();
      if (!config) continue;
      const { results } = await databases[name]
        .prepare('SELECT name, lower(type) AS type, "notnull" AS required, pk FROM pragma_table_info(?1)')
        .bind(table)
        .all<{ name: string; type: string; required: number; pk: number }>();
      const composite = config.primaryKeys[0]?.columns.map((column) => column.name) ?? [];
      const keyPlace = (column: { name: string; primary: boolean }) =>
        composite.length > 0 ? composite.indexOf(column.name) + 1 : Number(column.primary);
      expect(results, table).toEqual(
        config.columns.map((column) => ({
          name: column.name,
          type: column.getSQLType(),
          required: Number(column.notNull),
          pk: keyPlace(column),
        })),
      );
    }
  });

  it("has the indexes that the code declares, unique and partial as declared", async () => {
    const schema = await schemaOf(databases[name]);
    for (const { name: table, type, sql } of schema) {
      if (type !== "table" || sql?.startsWith("CREATE VIRTUAL")) continue;
      const made = schema
        .filter((row) => row.type === "index" && row.tbl_name === table)
        .map((row) => ({
          name: row.name,
          unique: /^CREATE UNIQUE/.test(row.sql ?? ""),
          partial: / WHERE /.test(row.sql ?? ""),
          columns: (/\(([^()]*)\)/.exec(normalised(row.sql ?? ""))?.[1] ?? "").split(", "),
        }));
      const wanted = (declared.get(table)?.indexes ?? []).map(({ config }) => ({
        name: config.name,
        unique: config.unique,
        partial: config.where !== undefined,
        columns: config.columns.map((column) => ("name" in column ? column.name : "")),
      }));
      const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
      expect(made.sort(byName), table).toEqual(wanted.sort(byName));
    }
  });

  it("keeps every table with a text key WITHOUT ROWID: half the rows written", async () => {
    for (const { name: table, type, sql } of await schemaOf(databases[name])) {
      if (type !== "table" || sql?.startsWith("CREATE VIRTUAL")) continue;
      const { results } = await databases[name]
        .prepare("SELECT lower(type) AS type FROM pragma_table_info(?1) WHERE pk > 0")
        .bind(table)
        .all<{ type: string }>();
      const rowid = results.length === 1 && results[0]?.type === "integer";
      expect(/WITHOUT ROWID$/i.test(sql ?? ""), `${table} is WITHOUT ROWID`).toBe(!rowid);
    }
  });
});

it("declares no table that is in neither or in both databases", async () => {
  const [directory, shard] = await Promise.all([schemaOf(env.DIRECTORY), schemaOf(env.SHARD_0)]);
  const stored = [...directory, ...shard].filter((row) => row.type === "table").map((row) => row.name);
  expect([...declared.keys()].sort()).toEqual(stored.filter((name) => declared.has(name)).sort());
  expect(new Set(stored).size).toBe(stored.length);
});

it("gives every shard the same schema", async () => {
  expect(await schemaOf(env.SHARD_1)).toEqual(await schemaOf(env.SHARD_0));
});
