/** Numbers, people and times as Infobip writes them. */
import type { Person } from "./provider";
import { objectOf, textOf } from "./provider-json";

/** Digits of a number however it is written; null for what is none. */
export function digitsOf(value: unknown): string | null {
  const text = textOf(value);
  return text === null || !/^\+?[\d\s().-]+$/.test(text) ? null : text.replaceAll(/\D/g, "") || null;
}

const USER_ID = /^[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}$/;

/** A person as `from` or `to` names them, with what `contact` adds. A user id may stand where a number did. */
export function infobipPerson(named: unknown, contact: unknown): Person {
  const text = textOf(named);
  const said = objectOf(contact);
  const isUser = text !== null && USER_ID.test(text);
  return {
    waId: (isUser ? null : (digitsOf(text) ?? text)) ?? digitsOf(said.phoneNumber),
    userId: textOf(said.userId) ?? (isUser ? text : null),
    parentUserId: textOf(said.parentUserId),
    username: textOf(said.username),
    name: textOf(said.name),
  };
}

/** `2025-01-01T10:10:00.000+0000` in ms: without a colon in its zone, which not every reader of dates takes. */
export function infobipTime(value: unknown): number | null {
  const text = textOf(value);
  if (text === null) return null;
  const time = Date.parse(text.replace(/([+-]\d{2})(\d{2})$/, "$1:$2"));
  return Number.isNaN(time) ? null : time;
}
