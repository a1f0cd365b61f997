interface SampleFile {
  mimeType: string;
  filename: string | null;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Types of customer messages that carry a file. */
const FILE_TYPES = ["image", "video", "audio", "voice", "document", "sticker"] as const;
export type FileType = (typeof FILE_TYPES)[number];

export function isFileType(type: string): type is FileType {
  return FILE_TYPES.some((known) => known === type);
}

/** A one-pixel picture. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEBP = "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA";

const PDF = `%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj
trailer<</Root 1 0 R>>
%%EOF
`;

/** A small file of a kind, for a customer who sends one without giving its bytes. */
export function sampleFile(type: FileType): SampleFile {
  switch (type) {
    case "image":
      return { mimeType: "image/png", filename: null, bytes: decodeBase64(PNG) };
    case "sticker":
      return { mimeType: "image/webp", filename: null, bytes: decodeBase64(WEBP) };
    case "document":
      return { mimeType: "application/pdf", filename: "document.pdf", bytes: latin1(PDF) };
    case "video":
      return { mimeType: "video/mp4", filename: null, bytes: box("ftyp", "isom\0\0\u0002\0isomiso2mp41") };
    case "audio":
    case "voice":
      return { mimeType: "audio/ogg; codecs=opus", filename: null, bytes: oggOpusHead() };
  }
}

export function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return latin1(atob(text));
}

/** An ISO media box: its length in four bytes, its name, its content. */
function box(name: string, content: string): Uint8Array<ArrayBuffer> {
  const body = latin1(`${name}${content}`);
  const whole = new Uint8Array(body.length + 4);
  new DataView(whole.buffer).setUint32(0, whole.length);
  whole.set(body, 4);
  return whole;
}

/** The first page of an Ogg stream, announcing Opus with one channel. */
function oggOpusHead(): Uint8Array<ArrayBuffer> {
  const head = "OpusHead\u0001\u0001\0\0\u0080\u00bb\0\0\0\0\0";
  const page = `OggS\0\u0002${"\0".repeat(8)}\u0001\0\0\0${"\0".repeat(8)}\u0001${String.fromCharCode(head.length)}${head}`;
  return latin1(page);
}

function latin1(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
