import { z } from "@hono/zod-openapi";
import { uuidv7 } from "uuidv7";

/** Mints a UUIDv7: ids sort by time, so a list by id is a list by age. */
export type NewId = () => string;

export const newUuid: NewId = () => uuidv7();

/** Any RFC 9562 UUID, lower-cased: our ids are compared as text. */
export const uuidSchema = z
  .string()
  .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i, "Must be a UUID")
  .toLowerCase()
  .meta({ format: "uuid" });

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isUuid(value: string): boolean {
  return UUID.test(value);
}
