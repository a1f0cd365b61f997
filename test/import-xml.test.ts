import { describe, expect, it } from "vitest";
import { XmlError, XmlReader } from "../src/imports/xml";

/** What a document says, in pieces of `size` characters; texts that follow each other as one. */
function read(document: string, size: number): string[] {
  const said: string[] = [];
  let text = "";
  const flush = () => {
    if (text !== "") said.push(`text ${text}`);
    text = "";
  };
  const reader = new XmlReader({
    open: (name, attributes) => {
      flush();
      said.push(`open ${name} ${JSON.stringify(attributes)}`);
    },
    text: (piece) => {
      text += piece;
    },
    close: (name) => {
      flush();
      said.push(`close ${name}`);
    },
  });
  for (let at = 0; at < document.length; at += size) reader.feed(document.slice(at, at + size));
  flush();
  return said;
}

describe("the XML of spreadsheets", () => {
  it("says the same wherever it is cut", () => {
    const document =
      '<?xml version="1.0"?><!-- <not/> --><x:row r="1" a=\'"q">\' ><c t="s">A &amp; B &#x1F600;&#65;<![CDATA[ <raw> & ]]></c><c/><v\n/></x:row>';
    const said = [
      'open row {"r":"1","a":"\\"q\\">"}',
      'open c {"t":"s"}',
      "text A & B \u{1F600}A <raw> & ",
      "close c",
      "open c {}",
      "close c",
      "open v {}",
      "close v",
      "close row",
    ];
    for (const size of [1, 2, 3, 7, 1000]) expect(read(document, size), `pieces of ${size}`).toEqual(said);
  });

  it.each([
    ["a document type", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
    ["an entity nobody declared", "<a>&b;</a>"],
    ["a character that does not exist", "<a>&#x110000;</a>"],
    ["tags that do not match", "<a><b></a></b>"],
    ["a tag without a name", "<a>< ></a>"],
    ["endless nesting", "<a>".repeat(1000)],
    ["a tag without an end", `<a ${"x".repeat(1_100_000)}`],
  ])("refuses %s", (_name, document) => {
    expect(() => read(document, 10_000)).toThrow(XmlError);
  });
});
