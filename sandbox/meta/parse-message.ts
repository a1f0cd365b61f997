import type { z } from "zod";
import { GraphError } from "./graph-error";
import {
  isMessageType,
  MESSAGE_PARTS,
  type MessageType,
  messageFrame,
  readReceipt,
  type TemplatePart,
} from "./message-schema";

export interface OutgoingMessage {
  type: MessageType;
  to: string | null;
  /** Business-scoped user id. */
  recipient: string | null;
  toGroup: boolean;
  callbackData: string | null;
  /** Ids of uploaded media the message names. */
  mediaIds: string[];
  /** Links the message names. */
  links: string[];
  template: TemplatePart | null;
}

export interface ReadReceipt {
  messageId: string;
  typing: boolean;
}

/** Whether a body sent to `/{phone}/messages` marks a message as read instead of sending one. */
export function isReadReceipt(params: Record<string, unknown>): boolean {
  return "status" in params;
}

/** Throws 100, 131008 or 131009 for what Meta refuses; a malformed message id is 131009. */
export function parseReadReceipt(params: Record<string, unknown>): ReadReceipt {
  const parsed = readReceipt.safeParse(params);
  if (!parsed.success) throw refusal(parsed.error, "", params);
  if (!parsed.data.message_id.startsWith("wamid.")) throw new GraphError(131009, { details: "Message ID is invalid." });
  return { messageId: parsed.data.message_id, typing: parsed.data.typing_indicator !== undefined };
}

/**
 * Reads a message as `POST /{phone}/messages` does: the frame first, then the part of its type, with every limit of
 * Meta's reference. Throws the GraphError Meta answers with.
 */
export function parseMessage(params: Record<string, unknown>): OutgoingMessage {
  if (params.messaging_product === undefined) throw missingParameter("messaging_product");
  if (params.to === undefined && params.recipient === undefined) throw missingParameter("to");
  const frame = messageFrame.safeParse(params);
  if (!frame.success) throw refusal(frame.error, "", params);
  const { type, to, recipient, recipient_type, biz_opaque_callback_data } = frame.data;
  if (!isMessageType(type)) {
    const known = Object.keys(MESSAGE_PARTS).map((name) => name.toUpperCase());
    throw new GraphError(100, { message: `(#100) Param type must be one of {${known.join(", ")}} - got "${type}".` });
  }
  const given = params[type];
  if (given === undefined) {
    throw new GraphError(131008, { details: `Parameter '${type}' is mandatory for type '${type}'` });
  }
  const part = MESSAGE_PARTS[type].safeParse(given);
  if (!part.success) throw refusal(part.error, type, given);
  return {
    type,
    to: to ?? null,
    recipient: recipient ?? null,
    toGroup: recipient_type === "group",
    callbackData: biz_opaque_callback_data ?? null,
    mediaIds: mediaNames(type, given, "id"),
    links: mediaNames(type, given, "link"),
    template: type === "template" ? MESSAGE_PARTS.template.parse(given) : null,
  };
}

function missingParameter(name: string): GraphError {
  return new GraphError(100, { message: `(#100) The parameter ${name} is required.` });
}

const MEDIA_KEYS = new Set(["image", "video", "document", "audio", "sticker"]);

/** Every media id (or link) within a part: the part itself may be the media, or hold it as header or parameter. */
function mediaNames(type: MessageType, part: unknown, member: "id" | "link"): string[] {
  const found: string[] = [];
  const visit = (value: unknown, isMedia: boolean) => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item, false);
      return;
    }
    if (typeof value !== "object" || value === null) return;
    for (const [key, child] of Object.entries(value)) {
      if (isMedia && key === member && typeof child === "string") found.push(child);
      else visit(child, MEDIA_KEYS.has(key));
    }
  };
  // Ids of list rows and reply buttons are not media: only what stands under a media key counts.
  visit(part, MEDIA_KEYS.has(type));
  return found;
}

/**
 * The first violation as Meta words it: a missing member is 131008, a wrong value inside an interactive message
 * 131009, everything else the 100 family naming the parameter.
 */
function refusal(error: z.ZodError, root: string, input: unknown): GraphError {
  const issue = error.issues[0];
  if (!issue) return new GraphError(100);
  const path = root === "" ? [...issue.path] : [root, ...issue.path];
  const name = parameterName(path);
  if (valueAt(input, issue.path) === undefined) {
    return new GraphError(131008, { details: `Parameter '${name}' is mandatory` });
  }
  const sentence = sentenceOf(issue, name);
  if (root === "interactive") return new GraphError(131009, { details: sentence });
  return new GraphError(100, { message: `(#100) ${sentence}` });
}

function sentenceOf(issue: z.core.$ZodIssue, name: string): string {
  switch (issue.code) {
    case "too_big":
      return `Param ${name} must be at most ${issue.maximum} ${unitOf(issue.origin)}.`;
    case "too_small":
      return `Param ${name} must be at least ${issue.minimum} ${unitOf(issue.origin)}.`;
    case "unrecognized_keys":
      return `Unexpected key "${issue.keys[0]}" on param "${name}".`;
    case "invalid_type":
      return `Param ${name} must be of type ${issue.expected}.`;
    case "invalid_value":
      return `Param ${name} must be one of {${issue.values.join(", ")}}.`;
    case "custom":
    case "invalid_format":
      return `Param ${name} ${issue.message}`;
    default:
      return `Param ${name} is not valid.`;
  }
}

function unitOf(origin: string): string {
  switch (origin) {
    case "string":
      return "characters long";
    case "array":
      return "items long";
    default:
      return "in value";
  }
}

/** `text['body']`, `template['components'][0]`: how Meta names a parameter. */
function parameterName(path: PropertyKey[]): string {
  const [first, ...rest] = path;
  if (first === undefined) return "body";
  return `${String(first)}${rest.map((part) => (typeof part === "number" ? `[${part}]` : `['${String(part)}']`)).join("")}`;
}

function valueAt(input: unknown, path: PropertyKey[]): unknown {
  let value = input;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}
