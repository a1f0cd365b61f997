/** How messages name their files. */
import { isUuid } from "../platform/ids";
import { MEDIA_TYPES, type MediaType } from "./schema";

interface Carrier {
  type: string;
  content: Record<string, unknown>;
}

export function isMediaType(type: string): type is MediaType {
  return (MEDIA_TYPES as readonly string[]).includes(type);
}

function carriesFile(type: string): type is ShownAs {
  return type === "sticker" || isMediaType(type);
}

/** The provider's id of a received file, null when the message has none. */
export function providerMediaIdOf(message: Carrier): string | null {
  if (!carriesFile(message.type)) return null;
  const { id } = message.content;
  return typeof id === "string" && id !== "" ? id : null;
}

/** Our id of the file a message of a media type was sent with. */
export function mediaIdOf(message: Carrier): string | null {
  if (!carriesFile(message.type)) return null;
  const id = message.content.media_id;
  return typeof id === "string" && isUuid(id) ? id : null;
}

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Members that hold a file in headers of interactive messages and in parameters of templates. */
const FILE_MEMBERS = ["image", "video", "document"] as const;

/** As what a message shows a file. */
export type ShownAs = MediaType | "sticker";

/**
 * A message's content with each of our files replaced by what `replace` makes of it: `{media_id, …}` of the message
 * itself, of an interactive header, of the parameters of a template and of its cards. What else a message says is left
 * alone, whatever its members are called.
 */
export function mapFiles(message: Carrier, replace: (mediaId: string, rest: Json, as: ShownAs) => Json): Json {
  const file = (value: unknown, as: ShownAs): unknown => {
    if (!isObject(value) || typeof value.media_id !== "string" || !isUuid(value.media_id)) return value;
    const { media_id, ...rest } = value;
    return replace(media_id.toLowerCase(), rest, as);
  };
  const holder = (value: unknown): unknown => {
    if (!isObject(value)) return value;
    const mapped = FILE_MEMBERS.filter((name) => name in value).map((name) => [name, file(value[name], name)]);
    return mapped.length === 0 ? value : { ...value, ...Object.fromEntries(mapped) };
  };
  const component = (value: unknown): unknown => {
    if (!isObject(value)) return value;
    return {
      ...value,
      ...(Array.isArray(value.parameters) ? { parameters: value.parameters.map(holder) } : {}),
      ...(Array.isArray(value.cards) ? { cards: value.cards.map(card) } : {}),
    };
  };
  const card = (value: unknown): unknown =>
    isObject(value) && Array.isArray(value.components)
      ? { ...value, components: value.components.map(component) }
      : value;
  const { type, content } = message;
  if (carriesFile(type)) {
    const mapped = file(content, type);
    return isObject(mapped) ? mapped : content;
  }
  if (type === "interactive" && "header" in content) return { ...content, header: holder(content.header) };
  if (type === "template" && Array.isArray(content.components)) {
    return { ...content, components: content.components.map(component) };
  }
  return content;
}

/** All the files of ours a message names, and as what. */
export function filesOf(message: Carrier): { mediaId: string; as: ShownAs }[] {
  const found = new Map<string, { mediaId: string; as: ShownAs }>();
  mapFiles(message, (mediaId, rest, as) => {
    found.set(`${mediaId} ${as}`, { mediaId, as });
    return rest;
  });
  return [...found.values()];
}
