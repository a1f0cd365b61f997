import { strToU8, Zip, ZipDeflate } from "fflate";
import { describe, expect, it } from "vitest";
import { csvRecords } from "../src/imports/csv";
import { xlsxRecords } from "../src/imports/xlsx";

/** A text of an entry, repeated. */
type Part = [text: string, times: number];

const SHEET = "xl/worksheets/sheet1.xml";
const ENTRIES: [string, Part[]][] = [
  ["xl/workbook.xml", [['<workbook xmlns:r="r"><sheets><sheet r:id="rId1"/></sheets></workbook>', 1]]],
  [
    "xl/_rels/workbook.xml.rels",
    [['<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/></Relationships>', 1]],
  ],
];

/** A workbook whose entries are packed piece by piece: what it unpacks to is never in memory. */
function packed(...entries: [string, Part[]][]): Uint8Array {
  const chunks: Uint8Array[] = [];
  const zip = new Zip((error, chunk) => {
    if (error) throw error;
    chunks.push(chunk);
  });
  const all = new Map([...ENTRIES, ...entries]);
  for (const [name, parts] of all) {
    const entry = new ZipDeflate(name, { level: 1 });
    zip.add(entry);
    for (const [text, times] of parts) {
      const atOnce = Math.max(1, Math.min(times, Math.floor(100_000 / text.length)));
      const block = strToU8(text.repeat(atOnce));
      for (let left = times; left > 0; left -= atOnce) {
        entry.push(left < atOnce ? strToU8(text.repeat(left)) : block.slice(), false);
      }
    }
    entry.push(new Uint8Array(0), true);
  }
  zip.end();
  return new Uint8Array(chunks.flatMap((chunk) => [...chunk]));
}

/** Gives a file out in pieces as they are asked for, and counts the bytes of each reading. */
function counted(file: Uint8Array, piece = 1024) {
  const taken: number[] = [];
  const open = async () => {
    let at = 0;
    const reading = taken.push(0) - 1;
    return new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(file.slice(at, at + piece));
          at += piece;
          taken[reading] = Math.min(at, file.length);
          if (at >= file.length) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
  };
  return { open, taken };
}

async function drain(groups: AsyncIterable<string[][]>): Promise<{ records: number; most: number }> {
  let records = 0;
  let most = 0;
  for await (const group of groups) {
    records += group.length;
    most = Math.max(
      most,
      group.reduce((sum, record) => sum + record.length, 0),
    );
  }
  return { records, most };
}

async function refusal(work: Promise<unknown>): Promise<{ status: number; text: string }> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  const { status, fields, message } = error as { status: number; fields?: unknown; message: string };
  return { status, text: `${message} ${JSON.stringify(fields)}` };
}

const ROW = "<sheetData><row><c><v>";

describe("a small workbook that unpacks to a lot", () => {
  it.each<[string, [string, Part[]], string]>([
    [
      "an endless cell",
      [
        SHEET,
        [
          [ROW, 1],
          ["x", 30_000_000],
        ],
      ],
      "the cell in row 1, column 1",
    ],
    [
      "an endless cell of another script",
      [
        SHEET,
        [
          [ROW, 1],
          ["ж", 15_000_000],
        ],
      ],
      "the cell in row 1, column 1",
    ],
    [
      "an endless cell further down",
      [
        SHEET,
        [
          ['<sheetData><row r="7"><c r="C7" t="inlineStr"><is><t>', 1],
          ["x", 30_000_000],
        ],
      ],
      "the cell in row 7, column 3",
    ],
    [
      "an endless row",
      [
        SHEET,
        [
          ["<row>", 1],
          [`<c><v>${"x".repeat(30_000)}</v></c>`, 1000],
        ],
      ],
      "row 1 has more than",
    ],
    [
      "an endless tag",
      [
        SHEET,
        [
          ["<row ", 1],
          ["x", 30_000_000],
        ],
      ],
      "damaged",
    ],
    [
      "an endless comment",
      [
        SHEET,
        [
          ["<!--", 1],
          ["x", 30_000_000],
        ],
      ],
      "damaged",
    ],
    [
      "an endless attribute",
      [
        SHEET,
        [
          ['<row a="', 1],
          ["x", 30_000_000],
        ],
      ],
      "damaged",
    ],
  ])("is refused for %s before it is unpacked", async (_name, entry, text) => {
    const file = packed(entry);
    expect(file.length).toBeGreaterThan(20_000);
    const { open, taken } = counted(file);
    expect(await refusal(drain(xlsxRecords(open)))).toMatchObject({ status: 422, text: expect.stringContaining(text) });
    // One kilobyte is a megabyte of it.
    expect(taken[1]).toBeLessThanOrEqual(4096);
  });

  it.each<[string, [string, Part[]], string]>([
    [
      "shared text",
      [
        "xl/sharedStrings.xml",
        [
          ["<sst><si><t>", 1],
          ["x", 30_000_000],
        ],
      ],
      "shared text 1 has more than",
    ],
    [
      "shared text in many runs",
      [
        "xl/sharedStrings.xml",
        [
          ["<sst><si/><si>", 1],
          ["<r><t>ж</t></r>", 2_000_000],
        ],
      ],
      "shared text 2 has more than",
    ],
    [
      "list of relationships",
      [
        "xl/_rels/workbook.xml.rels",
        [
          ["<Relationships>", 1],
          [`<Relationship Id="a" Target="${"x".repeat(60_000)}"/>`, 500],
        ],
      ],
      "too many parts",
    ],
  ])("is refused for an endless %s at its first reading", async (_name, entry, text) => {
    const file = packed(entry);
    expect(file.length).toBeGreaterThan(20_000);
    const { open, taken } = counted(file);
    expect(await refusal(drain(xlsxRecords(open)))).toMatchObject({ status: 422, text: expect.stringContaining(text) });
    expect(taken).toHaveLength(1);
    expect(taken[0]).toBeLessThanOrEqual(8192);
  });

  it("is refused for more entries than a workbook has", async () => {
    const empty = strToU8("PK\u{3}\u{4}", true);
    const header = new Uint8Array(31);
    header.set(empty);
    header[26] = 1;
    header[30] = 97;
    const file = new Uint8Array(31 * 50_000);
    for (let at = 0; at < file.length; at += 31) file.set(header, at);
    const { open, taken } = counted(file);
    expect(await refusal(drain(xlsxRecords(open)))).toMatchObject({ status: 422 });
    expect(taken[0]).toBeLessThan(400_000);
  });

  it("gives rows of many empty cells out a few at a time", async () => {
    const { open } = counted(
      packed([
        SHEET,
        [
          ["<a>", 1],
          ['<row><c r="ALL1"><v>1</v></c></row>', 50_000],
          ["</a>", 1],
        ],
      ]),
    );
    const { records, most } = await drain(xlsxRecords(open));
    expect(records).toBe(50_000);
    expect(most).toBeLessThan(2_000_000);
    const nothing = counted(
      packed([
        SHEET,
        [
          ["<a>", 1],
          ['<row><c r="ALL1"/></row>', 50_000],
          ["</a>", 1],
        ],
      ]),
    );
    expect((await drain(xlsxRecords(nothing.open))).most).toBe(0);
  });

  it("is read to the last character where it is within the limits", async () => {
    const text = (n: number) => `${"a".repeat(n)}${"😀".repeat(16_000)}`;
    const { open } = counted(
      packed(
        [SHEET, [[`<row><c><v>${text(1)}</v></c><c t="s"><v>0</v></c></row><row><c><v>${text(2)}</v></c></row>`, 1]]],
        ["xl/sharedStrings.xml", [[`<sst><si><t>${"ж".repeat(32_767)}</t></si></sst>`, 1]]],
      ),
    );
    const records: string[][] = [];
    for await (const group of xlsxRecords(open)) records.push(...group);
    expect(records).toEqual([[text(1), "ж".repeat(32_767)], [text(2)]]);
  });
});

describe("a CSV file", () => {
  const stream = (text: string, times: number) => counted(strToU8(text.repeat(times)), 16_384);

  it.each([
    ["a row of a million columns", "phone\n", ",", "A row is too long"],
    ["a quoted cell without end", 'phone\n"', "x\n", "A row is too long"],
    ["a quoted cell of quotes", 'phone\n"', '""', "A row is too long"],
  ])("is refused for %s before it is read to its end", async (_name, head, more, text) => {
    const { open, taken } = counted(strToU8(head + more.repeat(1_000_000)), 16_384);
    expect(await refusal(drain(csvRecords(await open(), "utf-8")))).toMatchObject({
      status: 422,
      text: expect.stringContaining(text),
    });
    expect(taken[0]).toBeLessThanOrEqual(10 * 16_384);
  });

  it("of many small rows is given out a few at a time, however large its pieces come", async () => {
    const { open } = stream("1,\n", 1_000_000);
    expect((await drain(csvRecords(await open(), "utf-8"))).records).toBe(1_000_000);
    const whole = counted(strToU8("1,\n".repeat(1_000_000)), 3_000_000);
    const { records, most } = await drain(csvRecords(await whole.open(), "utf-8"));
    expect(records).toBe(1_000_000);
    expect(most).toBeLessThan(100_000);
  });
});
