import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

const SOURCE_KINDS = ["woocommerce", "wp_users", "gravity_forms", "custom"] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

const pointer = z
  .string()
  .max(200)
  .regex(/^(\/([^~/]|~[01])*)+$/, "Must be a JSON pointer such as /billing/phone")
  .openapi({
    description:
      "A JSON pointer (RFC 6901) into one record. In a list of `{key, value}`, such as `meta_data`, a key stands for its value.",
    example: "/billing/phone",
  });

const consentField = z.object({
  field: pointer,
  values: z
    .array(z.string().min(1).max(100))
    .min(1)
    .max(20)
    .optional()
    .openapi({ description: "What counts as consent, in any case; true, 1, yes and on when left out." }),
});

const consent = z.union([z.enum(["never", "always"]), consentField], {
  error: "Must be never, always or an object with a field",
});

/** What is asked of a site, and how a record becomes a contact. Members that a kind does not have are left out. */
const sourceConfig = z.object({
  /** `custom`: the list, below the site's address. */
  path: z
    .string()
    .max(500)
    .regex(/^\/(?!\/)[^\s#]*$/, "Must begin with one slash")
    .optional(),
  /** `custom`: where the list stands in the answer; the answer itself when left out. */
  items: pointer.optional(),
  /** `custom`: the parameter by which only what is new is asked for. */
  since: z.enum(["modified_after", "after"]).optional(),
  /** `gravity_forms`: one form; all when left out. */
  form_id: z.int().positive().optional(),
  phone: pointer.optional(),
  /** Joined by spaces. */
  name: z.array(pointer).max(5).optional(),
  /** A two-letter country with which a national number is read; else the workspace's. */
  country: pointer.optional(),
  opted_in: consent.default("never").openapi({
    description:
      "Whether new contacts agreed to marketing: `never` says nothing of it, `always` means that everybody on the list did, a field says it of each. Whoever opted out stays out.",
  }),
  /** Given to contacts that are new. */
  tags: z.array(z.string().trim().min(1).max(60)).max(20).default([]),
});
export type SourceConfig = z.output<typeof sourceConfig>;

const name = z.string().trim().min(1, "Must not be empty").max(100, "Must have at most 100 characters");
const url = z.string().min(1, "Must not be empty").max(500).openapi({
  format: "uri",
  description: "The site's public https address, with the folder that WordPress is in.",
});
const credentials = z
  .object({
    user: z.string().min(1).max(200).openapi({ description: "A user name, or a consumer key." }),
    secret: z.string().min(1).max(500).openapi({ description: "An application password, or a consumer secret." }),
  })
  .openapi("WordPressCredentials", { description: "Never shown again." });

export const createSourceBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    name,
    kind: z.enum(SOURCE_KINDS),
    url,
    credentials: credentials.nullable().default(null),
    config: sourceConfig.prefault({}),
    enabled: z.boolean().default(true),
  })
  .openapi("CreateWordPressSource");

export const changeSourceBody = z
  .object({ name, url, credentials: credentials.nullable(), config: sourceConfig, enabled: z.boolean() })
  .partial()
  .openapi("ChangeWordPressSource", {
    description: "`config` is replaced as a whole. Another host needs its credentials named with it.",
  });

export const syncBody = z
  .object({
    full: z.boolean().default(false).openapi({ description: "Reads everything again, not only what is new." }),
  })
  .openapi("SyncWordPressSource");

const syncCounts = z.object({
  pages: z.int(),
  read: z.int(),
  created: z.int(),
  known: z.int().openapi({ description: "Records of people who were contacts already, or were deleted here." }),
  failed: z.int().openapi({ description: "Records without a readable phone number." }),
});
export type SyncCounts = z.output<typeof syncCounts>;
export const NO_COUNTS: SyncCounts = { pages: 0, read: 0, created: 0, known: 0, failed: 0 };

/** As it is stored: times in ms. */
const syncResult = syncCounts.extend({
  status: z.enum(["completed", "failed"]),
  error: z.string().nullable(),
  started_at: z.number(),
  finished_at: z.number(),
});
export type SyncResult = z.output<typeof syncResult>;

const time = z.string().openapi({ format: "date-time" });

export const sourceResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    name: z.string(),
    kind: z.enum(SOURCE_KINDS),
    url: z.string(),
    has_credentials: z.boolean(),
    config: sourceConfig,
    enabled: z.boolean(),
    status: z.enum(["idle", "running"]),
    progress: syncCounts
      .extend({ started_at: time, error: z.string().nullable(), next_attempt_at: time.nullable() })
      .nullable()
      .openapi({ description: "While it runs." }),
    last_result: syncResult.extend({ started_at: time, finished_at: time }).nullable(),
    next_sync_at: time.nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi("WordPressSource");

export const sourceList = pageOf(sourceResource);
export const sourceListQuery = pageQuery.extend({ workspace_id: uuidSchema.optional() });
export const sourceParams = z.object({ id: uuidSchema });

export const testAnswer = z
  .object({
    ok: z.boolean(),
    error: z.string().nullable(),
    total: z.int().nullable().openapi({ description: "How many records the site says it has." }),
    sample: z.array(
      z.object({ phone_number: z.string().nullable(), name: z.string().nullable(), opted_in: z.boolean() }),
    ),
  })
  .openapi("WordPressTest");
