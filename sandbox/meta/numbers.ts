import { z } from "zod";
import type { Accounts, NumberRecord } from "./accounts";
import { GraphError, noSuchObject } from "./graph-error";
import { isPhoneNumberId } from "./recipients";

/** Fields of a number that a call may name and the control API may set, as a fresh number has them. */
function freshFields(phoneId: string): Record<string, unknown> {
  return {
    verified_name: `Sandbox ${phoneId.slice(-4)}`,
    quality_rating: "GREEN",
    quality_score: { score: "GREEN" },
    code_verification_status: "VERIFIED",
    name_status: "APPROVED",
    new_name_status: "NONE",
    status: "CONNECTED",
    account_mode: "LIVE",
    platform_type: "CLOUD_API",
    throughput: { level: "STANDARD" },
    whatsapp_business_manager_messaging_limit: "TIER_1K",
    messaging_limit_tier: "TIER_1K",
    is_official_business_account: false,
    is_pin_enabled: false,
    is_on_biz_app: false,
    search_visibility: "VISIBLE",
    country_code: "US",
    country_dial_code: "1",
    last_onboarded_time: "2026-01-01T00:00:00+0000",
    health_status: { can_send_message: "AVAILABLE", entities: [] },
  };
}

const DEFAULT_FIELDS = [
  "verified_name",
  "code_verification_status",
  "display_phone_number",
  "quality_rating",
  "platform_type",
  "throughput",
  "id",
];

/** A number as `GET /{phone}` shows it. Throws 100 for a field that numbers do not have. */
export function showNumber(phoneId: string, record: NumberRecord, fields: string | null): Record<string, unknown> {
  const all: Record<string, unknown> = {
    ...freshFields(phoneId),
    ...(record.registered ? {} : { status: "DISCONNECTED" }),
    ...record.fields,
    display_phone_number: `+${phoneId}`,
    id: phoneId,
    webhook_configuration: record.override ? { phone_number: record.override.override_callback_uri } : {},
  };
  const names = fields === null ? DEFAULT_FIELDS : fieldNames(fields);
  const unknown = names.find((name) => !(name in all));
  if (unknown !== undefined) {
    throw new GraphError(100, {
      message: `(#100) Tried accessing nonexistent field (${unknown}) on node type (WhatsAppBusinessPhoneNumber)`,
    });
  }
  return Object.fromEntries([...names, "id"].map((name) => [name, all[name]]));
}

/** `a,b{c,d},e` -> a, b, e: what is asked of a nested field changes nothing here. */
export function fieldNames(fields: string): string[] {
  return fields
    .replaceAll(/\{[^{}]*\}/g, "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

/** The phone number id of a path, or the answer Meta gives for a node that is not there. */
export function requirePhoneId(id: string, method: string): string {
  if (!isPhoneNumberId(id)) throw noSuchObject(id, method);
  return id;
}

const pin = z.object({ messaging_product: z.literal("whatsapp"), pin: z.string().regex(/^\d{6}$/) });

export function registerNumber(
  accounts: Accounts,
  phoneId: string,
  record: NumberRecord,
  params: Record<string, unknown>,
): void {
  const parsed = pin.safeParse(params);
  if (!parsed.success) {
    const name = String(parsed.error.issues[0]?.path[0] ?? "pin");
    if (params[name] === undefined) throw new GraphError(100, { message: `(#100) The parameter ${name} is required.` });
    throw new GraphError(100, { message: `(#100) Param ${name} is not valid.` });
  }
  if (record.pin !== null && record.pin !== parsed.data.pin) throw new GraphError(133005);
  accounts.saveNumber(phoneId, { ...record, registered: true, pin: parsed.data.pin });
}

const profileSchema = z.object({
  about: z.string().min(1).max(139).optional(),
  address: z.string().max(256).optional(),
  description: z.string().max(512).optional(),
  email: z.union([z.literal(""), z.email().max(128)]).optional(),
  profile_picture_handle: z.string().optional(),
  vertical: z.string().optional(),
  websites: z.array(z.url().max(256)).max(2).optional(),
});

const PROFILE_FIELDS = ["about", "address", "description", "email", "profile_picture_url", "websites", "vertical"];

export function showProfile(record: NumberRecord, fields: string | null): unknown {
  const names = fields === null ? [] : fieldNames(fields);
  const unknown = names.find((name) => !PROFILE_FIELDS.includes(name) && name !== "messaging_product" && name !== "id");
  if (unknown !== undefined) {
    throw new GraphError(100, {
      message: `(#100) Tried accessing nonexistent field (${unknown}) on node type (WhatsAppBusinessProfile)`,
    });
  }
  const shown = Object.entries(record.profile).filter(([name]) => fields === null || names.includes(name));
  return { data: [{ ...Object.fromEntries(shown), messaging_product: "whatsapp" }] };
}

export function editProfile(
  accounts: Accounts,
  phoneId: string,
  record: NumberRecord,
  params: Record<string, unknown>,
): void {
  if (params.messaging_product !== "whatsapp") {
    throw new GraphError(100, { message: "(#100) The parameter messaging_product is required." });
  }
  const parsed = profileSchema.safeParse(params);
  if (!parsed.success) {
    throw new GraphError(100, { message: `(#100) Param ${String(parsed.error.issues[0]?.path[0])} is not valid.` });
  }
  const { profile_picture_handle, ...fields } = parsed.data;
  const picture =
    profile_picture_handle === undefined ? {} : { profile_picture_url: `https://pps.whatsapp.net/${phoneId}.jpg` };
  accounts.saveNumber(phoneId, { ...record, profile: { ...record.profile, ...fields, ...picture } });
}

/** What the control API may change on a number, for tests of synchronisation. */
export const numberPatch = z.strictObject({
  verified_name: z.string().optional(),
  quality_rating: z.string().optional(),
  status: z.string().optional(),
  name_status: z.string().optional(),
  throughput: z.strictObject({ level: z.string() }).optional(),
  whatsapp_business_manager_messaging_limit: z.string().optional(),
  messaging_limit_tier: z.string().optional(),
  registered: z.boolean().optional(),
});
