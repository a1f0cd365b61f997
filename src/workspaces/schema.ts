import { z } from "@hono/zod-openapi";
import { isSupportedCountry } from "libphonenumber-js/min/es6";
import { ROLES } from "../auth/access";
import { emailSchema } from "../auth/schema";
import { uuidSchema } from "../platform/ids";

export const planSchema = z.enum(["free", "pro", "enterprise"]);
export type Plan = z.infer<typeof planSchema>;

const roleSchema = z.enum(ROLES);

const statusSchema = z.enum(["active", "suspended"]);
const name = z.string().trim().min(1, "Must not be empty").max(200);
const time = z.string().openapi({ format: "date-time", example: "2024-01-01T00:00:00Z" });

export const workspaceParams = z.object({ workspace_id: uuidSchema });
export const memberParams = z.object({ workspace_id: uuidSchema, member_id: uuidSchema });

export const createWorkspaceBody = z.object({ name, plan: planSchema.default("free") }).openapi("CreateWorkspace");

const words = z.array(z.string().trim().min(1).max(40)).max(200);

/** What each known key may hold. A key of another slice is added here; keys not listed are kept as they are. */
export const knownSettings = {
  opt_out_words: words,
  opt_in_words: words,
  enforce_service_window: z.boolean(),
  resend_unknown: z.boolean(),
  default_country: z
    .string()
    .toUpperCase()
    .refine((code) => isSupportedCountry(code), "Must be a two-letter ISO 3166 country code"),
};

/** Bounds of the keys of one patch; the size of all settings is bounded where they are stored. */
const KEY_LENGTH = 100;
const MAX_KEYS = 200;
/** SQLite reads JSON of up to 1,000 levels. */
const MAX_DEPTH = 50;

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((member) => isShallow(member, levels - 1));
}

/**
 * `settings` of a PATCH: a known key is validated, an unknown one kept, null deletes. What is given replaces the whole
 * value of its key; keys that are not named stay.
 */
const settingsPatch = z
  .object({
    opt_out_words: knownSettings.opt_out_words.nullable().optional(),
    opt_in_words: knownSettings.opt_in_words.nullable().optional(),
    enforce_service_window: knownSettings.enforce_service_window.nullable().optional(),
    resend_unknown: knownSettings.resend_unknown.nullable().optional(),
    default_country: knownSettings.default_country.nullable().optional(),
  })
  .catchall(z.unknown())
  .refine(
    (settings) => Object.keys(settings).every((key) => key.length >= 1 && key.length <= KEY_LENGTH),
    `A key has 1 to ${KEY_LENGTH} characters`,
  )
  .refine((settings) => Object.keys(settings).length <= MAX_KEYS, `At most ${MAX_KEYS} keys`)
  .refine((settings) => isShallow(settings, MAX_DEPTH), `At most ${MAX_DEPTH} levels of nesting`)
  .openapi("WorkspaceSettings");

export type SettingsPatch = z.output<typeof settingsPatch>;

export const updateWorkspaceBody = z
  .object({
    name: name.optional(),
    plan: planSchema.optional(),
    status: statusSchema.optional(),
    settings: settingsPatch
      .optional()
      .openapi({ description: "Keys that are given replace theirs, null deletes one, all others stay." }),
  })
  .openapi("UpdateWorkspace");

export const workspaceAnswer = z
  .object({
    id: z.uuid(),
    name: z.string(),
    slug: z.string(),
    api_key: z.string().nullable().openapi({ description: "Null for MEMBER, AGENT and API keys.", example: "wsk_..." }),
    webhook_secret: z.string().nullable().openapi({
      description: "Signs outbound webhooks (Standard Webhooks). Null for MEMBER, AGENT and API keys.",
      example: "whsec_...",
    }),
    created_by: z.uuid(),
    plan: planSchema,
    status: statusSchema,
    settings: z.record(z.string(), z.unknown()),
    created_at: time,
    updated_at: time,
  })
  .openapi("Workspace");

export const workspaceSummary = z
  .object({
    id: z.uuid(),
    name: z.string(),
    slug: z.string(),
    plan: planSchema,
    status: statusSchema,
    created_at: time,
    user_role: roleSchema,
  })
  .openapi("WorkspaceSummary");

export const addMemberBody = z.object({ user_email: emailSchema, role: roleSchema }).openapi("AddMember");

export const changeRoleBody = z.object({ role: roleSchema }).openapi("ChangeRole");

export const acceptInvitationBody = z.object({ token: z.string().min(1).max(200) }).openapi("AcceptInvitation");

export const memberAnswer = z
  .object({
    id: z.uuid(),
    workspace_id: z.uuid(),
    user_id: z.uuid().nullable().openapi({ description: "Null while invited." }),
    email: z.string(),
    role: roleSchema,
    status: z.enum(["active", "invited"]),
    joined_at: time.nullable(),
    created_at: time,
  })
  .openapi("Member");

export const addedMemberAnswer = memberAnswer
  .extend({
    invitation_url: z.string().optional().openapi({
      description: "Once, for an invited address: hand it to its owner. Its fragment is the token to accept with.",
    }),
  })
  .openapi("AddedMember");
