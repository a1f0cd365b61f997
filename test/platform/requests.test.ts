import { describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { isoMillis, isoSeconds, isoSecondsOrNull } from "../../src/platform/clock";
import { AppError, ERRORS, invalidField } from "../../src/platform/errors";
import { requestHash } from "../../src/platform/idempotency";
import { isUuid, newUuid } from "../../src/platform/ids";
import { errorFields, log } from "../../src/platform/log";
import { decodeCursor, encodeCursor } from "../../src/platform/pagination";

describe("the same request", () => {
  it("is the same whatever the order of its members, and another one otherwise", async () => {
    const body = { to: "+1", text: "a", nested: { x: 1, y: [1, 2] }, absent: undefined };
    const hash = await requestHash("POST /send", body);
    expect(await requestHash("POST /send", { nested: { y: [1, 2], x: 1 }, text: "a", to: "+1" })).toBe(hash);
    const others: [string, unknown][] = [
      ["POST /other", body],
      ["POST /send", { ...body, text: "b" }],
      ["POST /send", { ...body, nested: { x: 1, y: [2, 1] } }],
      ["POST /send", { ...body, text: null }],
      ["POST /send", { ...body, to: 1 }],
      ["POST /send", [body]],
    ];
    for (const [operation, other] of others) expect(await requestHash(operation, other)).not.toBe(hash);
  });
});

describe("a cursor", () => {
  const key = z.tuple([z.number(), z.string()]);

  it("carries the sort key of a row through a URL", () => {
    const cursor = encodeCursor([1_700_000_000_000, "ü/+?&=☃"]);
    expect(encodeURIComponent(cursor)).toBe(cursor);
    expect(decodeCursor(cursor, key)).toEqual([1_700_000_000_000, "ü/+?&=☃"]);
  });

  it("that is none, or another list's, is a 422 that names it", () => {
    for (const cursor of ["x", "", "e30", encodeCursor(["a", 1]), encodeCursor([1, "a", 2]), "ÿ", "W10=", "_____"]) {
      expect(() => decodeCursor(cursor, key), cursor).toThrow(AppError);
      expect(() => decodeCursor(cursor, key)).toThrow("Not a cursor of this list");
    }
  });
});

describe("times", () => {
  it("print whole seconds in documents and milliseconds in events", () => {
    expect(isoSeconds(1_704_067_200_999)).toBe("2024-01-01T00:00:00Z");
    expect(isoMillis(1_704_067_200_999)).toBe("2024-01-01T00:00:00.999Z");
    expect([isoSecondsOrNull(null), isoSecondsOrNull(undefined), isoSecondsOrNull(0)]).toEqual([
      null,
      null,
      "1970-01-01T00:00:00Z",
    ]);
  });
});

describe("ids", () => {
  it("sort by age", () => {
    const made = Array.from({ length: 1000 }, newUuid);
    expect([...made].sort()).toEqual(made);
    expect(new Set(made).size).toBe(1000);
    expect(made.every(isUuid)).toBe(true);
  });
});

describe("refusals", () => {
  it("have the status of their code, a 4xx or 5xx", () => {
    for (const [code, { status }] of Object.entries(ERRORS)) {
      expect(status, code).toBeGreaterThanOrEqual(400);
      expect(status, code).toBeLessThan(600);
    }
    expect(invalidField(["body", "to"], "No")).toMatchObject({
      status: 422,
      fields: [{ loc: ["body", "to"], msg: "No" }],
    });
  });
});

describe("the log", () => {
  it("is one JSON object a line, at its level", () => {
    for (const [level, method] of [
      ["info", "log"],
      ["warn", "warn"],
      ["error", "error"],
    ] as const) {
      const printed = vi.spyOn(console, method).mockImplementation(() => {});
      log(level, "thing.happened", { n: 1, text: "two\nlines", none: undefined });
      expect(printed.mock.calls).toHaveLength(1);
      expect(printed.mock.calls[0]?.[0]).not.toContain("\n");
      expect(JSON.parse(String(printed.mock.calls[0]?.[0]))).toEqual({
        level,
        event: "thing.happened",
        n: 1,
        text: "two\nlines",
      });
      printed.mockRestore();
    }
  });

  it("says an error's class and message, cut, and its cause", () => {
    const error = new TypeError("x".repeat(1000), { cause: new Error("because") });
    expect(errorFields(error)).toEqual({ error: `TypeError: ${"x".repeat(289)}`, cause: "Error: because" });
    expect(errorFields("secret")).toEqual({ error: "a value that is no Error was thrown" });
  });
});
