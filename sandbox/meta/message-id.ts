import { hex } from "../random";

/**
 * An id of the form Meta uses: `wamid.` and base64 of a small record that holds the other side's number and a random
 * key. Clients must treat it as opaque; it only has to be unique and about as long as a real one.
 */
export function newMessageId(direction: "in" | "out", person: string): string {
  const key = hex(crypto.getRandomValues(new Uint8Array(10))).toUpperCase();
  const text = person.slice(0, 60);
  const record = [
    ...[0x1c, 0x18, text.length],
    ...ascii(text),
    ...[0x15, 0x02, 0x00, direction === "out" ? 0x11 : 0x12, 0x18, key.length],
    ...ascii(key),
    0x00,
  ];
  return `wamid.${btoa(String.fromCharCode(...record))}`;
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0) & 0x7f);
}
