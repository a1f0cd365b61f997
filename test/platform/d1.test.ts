import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { built, Db, fromRow, isOverloaded, isPassing, jsonChunks, statement } from "../../src/platform/d1";
import { AppError } from "../../src/platform/errors";
import { newUuid } from "../../src/platform/ids";
import { createRuntime, shard, shardNumbers } from "../../src/platform/runtime";
import { workspaceStates } from "../../src/workspaces/shard-tables";

const db = () => new Db(env.SHARD_0);
const insert = (id: string, status = "active") =>
  statement(
    "INSERT INTO workspace_states (workspace_id, status, settings, updated_at) VALUES (?1, ?2, '{}', 1)",
    id,
    status,
  );
const count = (id: string) =>
  env.SHARD_0.prepare("SELECT count(*) AS n FROM workspace_states WHERE workspace_id = ?1").bind(id).first("n");

describe("what production would refuse is refused here", () => {
  it("more than 100 parameters", async () => {
    const list = (n: number) => Array.from({ length: n }, (_, at) => `?${at + 1}`).join(",");
    const values = (n: number) => Array.from({ length: n }, () => 1);
    expect(await db().all(`SELECT ${list(100)}`, ...values(100))).toHaveLength(1);
    await expect(db().all(`SELECT ${list(101)}`, ...values(101))).rejects.toThrow("100 bound parameters");
    await expect(db().batch([statement(`SELECT ${list(101)}`, ...values(101))])).rejects.toThrow(
      "100 bound parameters",
    );
  });

  it("texts over 2 MB, measured in bytes, and statements over 100 KB", async () => {
    const length = (text: string) => db().first<{ n: number }>("SELECT length(?1) AS n", text);
    expect((await length("x".repeat(2_000_000)))?.n).toBe(2_000_000);
    await expect(length("x".repeat(2_000_001))).rejects.toThrow("2000000 bytes");
    await expect(length("☃".repeat(700_000))).rejects.toThrow("2000000 bytes");
    await expect(db().all(`SELECT '${"x".repeat(100_000)}'`)).rejects.toThrow("100000 bytes");
  });
});

describe("a batch", () => {
  it("is one transaction and one round trip, and is metered", async () => {
    const [first, second] = [newUuid(), newUuid()];
    const session = db();
    await session.batch([insert(first), insert(second)]);
    expect(session.cost).toEqual({ roundTrips: 1, queries: 2, rowsRead: expect.any(Number), rowsWritten: 2 });
    const third = newUuid();
    await expect(session.batch([insert(third), insert(first)])).rejects.toThrow("UNIQUE");
    expect(await count(third)).toBe(0);
    expect(await session.batch([])).toEqual([]);
    expect(session.cost.roundTrips).toBe(2);
  });

  it("takes drizzle's statements beside native ones, and drizzle's own reads are metered too", async () => {
    const id = newUuid();
    const session = db();
    const values = { workspaceId: id, status: "active" as const, settings: { a: true }, updatedAt: 5 };
    await session.batch([built(session.orm.insert(workspaceStates).values(values)), insert(newUuid())]);
    const row = await session.first("SELECT * FROM workspace_states WHERE workspace_id = ?1", id);
    expect(row && fromRow(workspaceStates, row)).toEqual(values);
    const before = session.cost.roundTrips;
    await session.orm.select().from(workspaceStates).limit(1);
    expect(session.cost.roundTrips).toBe(before + 1);
  });
});

describe("errors of the database", () => {
  it("tell an overload, which is answered 503 and never tried again hot", async () => {
    for (const text of [
      "D1_ERROR: D1 DB is overloaded. Requests queued for too long.",
      "D1_ERROR: D1 DB is overloaded. Too many requests queued.",
    ]) {
      expect(isOverloaded(new Error(text))).toBe(true);
      expect(isOverloaded(new Error("Failed query", { cause: new Error(text) }))).toBe(true);
      const session = new Db({
        withSession: () => ({ prepare: () => ({ bind: () => ({ all: () => Promise.reject(new Error(text)) }) }) }),
      } as unknown as D1Database);
      const refused = await session.all("SELECT 1").catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(AppError);
      expect(refused).toMatchObject({ code: "overloaded", status: 503, retryAfter: 5 });
    }
    expect(isOverloaded(new Error("D1_ERROR: UNIQUE constraint failed"))).toBe(false);
  });

  it("tell what may be gone at the next try from what will be the same then", async () => {
    for (const text of ["Network connection lost.", "D1_ERROR: storage caused object to be reset", "internal error"]) {
      expect(isPassing(new Error(text)), text).toBe(true);
    }
    const id = newUuid();
    await db().batch([insert(id)]);
    const twice = await db()
      .batch([insert(id)])
      .catch((error: unknown) => error);
    const malformed = await db()
      .all("SELECT * FROM json_each(?1)", "{")
      .catch((error: unknown) => error);
    const tooMany = await db()
      .all("SELECT 1", ...Array.from({ length: 101 }, () => 1))
      .catch((error: unknown) => error);
    for (const error of [twice, malformed, tooMany]) {
      expect(error).toBeInstanceOf(Error);
      expect(isPassing(error), String(error)).toBe(false);
    }
  });
});

describe("rows as JSON parameters", () => {
  it("are cut below half a megabyte, whole and in order; one that is larger stands alone", () => {
    const rows = Array.from({ length: 3000 }, (_, n) => ({ n, text: "☃".repeat(n % 200) }));
    const chunks = jsonChunks(rows);
    expect(chunks.length).toBeGreaterThan(1);
    for (const chunk of chunks) expect(new TextEncoder().encode(chunk).byteLength).toBeLessThanOrEqual(500_000);
    expect(chunks.flatMap((chunk) => JSON.parse(chunk) as unknown[])).toEqual(rows);
    const large = { text: "x".repeat(600_000) };
    expect(jsonChunks([{ a: 1 }, large, { b: 2 }]).map((chunk) => JSON.parse(chunk))).toEqual([
      [{ a: 1 }],
      [large],
      [{ b: 2 }],
    ]);
    expect(jsonChunks([])).toEqual([]);
  });
});

describe("shards", () => {
  it("are the bindings there are, ascending; a missing one is an error, never another one", () => {
    expect(shardNumbers(env)).toEqual([0, 1]);
    const more = { ...env, SHARD_10: env.SHARD_0, SHARD_2: env.SHARD_1, SHARDS: "3", SHARD_X: 1 };
    expect(shardNumbers(more)).toEqual([0, 1, 2, 10]);
    expect(() => shard(createRuntime(env), 7)).toThrow("The binding SHARD_7 is missing");
  });
});
