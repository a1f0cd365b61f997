import { sha256Hex } from "../platform/crypto";

interface Place {
  workspaceId: string;
  phoneNumberId: string | null;
  provider: string;
}

/** The same event has the same id however often it is delivered: a UUID (version 8) of what it says and where. */
export async function eventId({ workspaceId, phoneNumberId, provider }: Place, raw: string): Promise<string> {
  const hex = await sha256Hex(`${workspaceId}\n${phoneNumberId ?? ""}\n${provider}\n${raw}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** The id of work that was given up at `at` (ms): like a UUIDv7 it begins with its time, and the same work has the same. */
export async function letterId(at: number, text: string): Promise<string> {
  const time = at.toString(16).padStart(12, "0").slice(-12);
  const hex = await sha256Hex(text);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-8${hex.slice(3, 6)}-${hex.slice(6, 18)}`;
}
