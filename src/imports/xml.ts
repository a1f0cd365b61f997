/** The XML of spreadsheets, read piece by piece: tags and texts, nothing that could refer to anything. */

export interface XmlHandlers {
  /** Names without their prefix; attributes with it. */
  open?(name: string, attributes: Record<string, string>): void;
  text?(text: string): void;
  close?(name: string): void;
}

/** What is no XML, or more of it than a spreadsheet has. */
export class XmlError extends Error {}

/** Characters of one tag, comment or CDATA section: a cell has at most 32,767. */
const MAX_TOKEN = 64 * 1024;
/** Characters of a tag's name. */
const MAX_NAME = 256;
const MAX_DEPTH = 256;
/** Characters of a reference such as `&#x1F600;`. */
const MAX_REFERENCE = 12;

const TAG = /<(?:[^"'<>]|"[^"]*"|'[^']*')*>/y;
const ATTRIBUTE = /([^\s=/]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g;
const NAMED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

export class XmlReader {
  readonly #handlers: XmlHandlers;
  readonly #open: string[] = [];
  #rest = "";

  constructor(handlers: XmlHandlers) {
    this.#handlers = handlers;
  }

  /** Takes the next piece, cut anywhere. Throws XmlError. */
  feed(piece: string): void {
    const text = this.#rest + piece;
    let at = 0;
    for (;;) {
      const tag = text.indexOf("<", at);
      if (tag < 0) break;
      this.#text(text.slice(at, tag));
      at = tag;
      const end = endOf(text, tag);
      if (end === null) break;
      this.#markup(text.slice(tag, end));
      at = end;
    }
    if (text[at] !== "<") {
      // A reference may be cut in two.
      const reference = text.lastIndexOf("&");
      const whole = reference < at || text.includes(";", reference) || text.length - reference > MAX_REFERENCE;
      const to = whole ? text.length : reference;
      this.#text(text.slice(at, to));
      at = to;
    }
    this.#rest = text.slice(at);
    if (this.#rest.length > MAX_TOKEN) throw new XmlError("A tag has no end");
  }

  #markup(token: string): void {
    if (token.length > MAX_TOKEN) throw new XmlError("A tag is too long");
    if (token.startsWith("<?") || token.startsWith("<!--")) return;
    if (token.startsWith("<![CDATA[")) {
      this.#handlers.text?.(token.slice(9, -3));
      return;
    }
    if (token.startsWith("</")) {
      const name = token.slice(2, -1).trim();
      if (this.#open.pop() !== name) throw new XmlError("Tags do not match");
      this.#handlers.close?.(local(name));
      return;
    }
    const name = /^<([^\s/>]+)/.exec(token)?.[1];
    if (name === undefined) throw new XmlError("A tag has no name");
    if (name.length > MAX_NAME) throw new XmlError("A tag's name is too long");
    const attributes: Record<string, string> = Object.create(null);
    for (const [, key = "", double, single] of token.slice(name.length + 1).matchAll(ATTRIBUTE)) {
      attributes[key] = decoded(double ?? single ?? "");
    }
    this.#handlers.open?.(local(name), attributes);
    if (token.endsWith("/>")) this.#handlers.close?.(local(name));
    else if (this.#open.push(name) > MAX_DEPTH) throw new XmlError("Tags are nested too deeply");
  }

  #text(text: string): void {
    if (text !== "") this.#handlers.text?.(decoded(text));
  }
}

/** Where the markup that begins at `at` ends; null when that is not here yet. */
function endOf(text: string, at: number): number | null {
  if (text[at + 1] === "?") return after(text, "?>", at + 2);
  if (text[at + 1] === "!") {
    if (text.startsWith("<!--", at)) return after(text, "-->", at + 4);
    if (text.startsWith("<![CDATA[", at)) return after(text, "]]>", at + 9);
    if (text.length - at < 9) return null;
    // A document type: with one, entities could multiply or refer to other files. Spreadsheets have none.
    throw new XmlError("It declares a document type");
  }
  TAG.lastIndex = at;
  const tag = TAG.exec(text);
  return tag && at + tag[0].length;
}

function after(text: string, end: string, from: number): number | null {
  const found = text.indexOf(end, from);
  return found < 0 ? null : found + end.length;
}

/** Names may carry a prefix. */
function local(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

function decoded(text: string): string {
  if (!text.includes("&")) return text;
  return text.replaceAll(/&(#x[0-9a-f]+|#\d+|\w+);/gi, (_, reference: string) => {
    if (!reference.startsWith("#")) {
      const char = NAMED[reference];
      if (char === undefined) throw new XmlError("It refers to something that is not there");
      return char;
    }
    const code = /^#x/i.test(reference) ? Number.parseInt(reference.slice(2), 16) : Number(reference.slice(1));
    if (code > 0x10ffff) throw new XmlError("There is no such character");
    return String.fromCodePoint(code);
  });
}
