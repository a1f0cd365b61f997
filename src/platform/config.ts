import { z } from "zod";
import { AppError } from "./errors";

const optional = z
  .string()
  .trim()
  .transform((value) => (value === "" ? undefined : value))
  .optional();

const baseUrl = z.url({ protocol: /^https?$/ }).transform((value) => value.replace(/\/+$/, ""));

const origins = z
  .string()
  .default("")
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ""))
  .pipe(z.array(z.url({ protocol: /^https?$/, error: "LIVE_ORIGINS lists origins such as https://inbox.example.com" })))
  .transform((urls) => urls.map((url) => new URL(url).origin));

/** `localhost:8001` and the like, as a URL names its host. */
const hosts = z
  .string()
  .default("")
  .transform((text) =>
    text
      .toLowerCase()
      .split(/[\s,]+/)
      .filter((part) => part !== ""),
  );

/**
 * Times of the sending and receiving pipelines, in ms unless named otherwise. Configuration, because queue delays and
 * alarms ignore fake clocks: tests make them short, production keeps the defaults.
 */
const pipelineSchema = z
  .object({
    /** How long a claim is held. No call starts later than lease − 2 × providerTimeout after the claim. */
    lease: z.int().min(100).default(90_000),
    providerTimeout: z.int().min(20).default(15_000),
    backoffBase: z.int().min(1).default(2_000),
    backoffCap: z.int().min(1).default(60_000),
    maxAttempts: z.int().min(1).max(20).default(8),
    /** How long after an ambiguous call statuses of its number must have been arriving before it is given up. */
    unknownAfter: z.int().min(1).default(600_000),
    /** A number the provider blocked is tried again with one message after this time. */
    blockedProbe: z.int().min(1).default(300_000),
    /** Results of a batch are stored at least this often. */
    resultEvery: z.int().min(1).default(5_000),
    /** The sweep takes up what should have been handled this long ago. */
    sweepAfter: z.int().min(0).default(60_000),
    pairInterval: z.int().min(0).default(6_000),
    pairBurst: z.int().min(1).default(45),
    messageTtl: z.int().min(1_000).default(86_400_000),
  })
  .refine(
    (value) => value.lease >= 3 * value.providerTimeout,
    "PIPELINE: lease must be at least three times providerTimeout, or no call could ever start",
  )
  .prefault({});

export type PipelineSettings = z.infer<typeof pipelineSchema>;

const pipelineText = z
  .string()
  .default("")
  .transform((text, context) => {
    try {
      return text === "" ? {} : (JSON.parse(text) as unknown);
    } catch {
      context.addIssue({ code: "custom", message: "PIPELINE must be a JSON object" });
      return z.NEVER;
    }
  })
  .pipe(pipelineSchema);

const settingsSchema = z.object({
  SECRET_KEY: z
    .string({ error: "SECRET_KEY is missing. Set it with: wrangler secret put SECRET_KEY" })
    .min(32, "SECRET_KEY is too weak: it needs at least 32 characters, such as `openssl rand -base64 48` prints")
    .refine((value) => new Set(value).size >= 10, "SECRET_KEY is too weak: it repeats few characters"),
  SECRET_KEY_PREVIOUS: optional,
  META_APP_ID: optional,
  META_APP_SECRET: optional,
  META_APP_SECRET_PREVIOUS: optional,
  WHATSAPP_WEBHOOK_VERIFY_TOKEN: optional,
  WHATSAPP_API_VERSION: z
    .string()
    .regex(/^v\d+\.\d+$/, "WHATSAPP_API_VERSION looks like v25.0")
    .default("v25.0"),
  META_GRAPH_URL: baseUrl.default("https://graph.facebook.com"),
  DIALOG360_URL: baseUrl.default("https://waba-v2.360dialog.io"),
  /** For numbers that name no address of their account; another one than Infobip's takes the place of every account's. */
  INFOBIP_URL: baseUrl.default("https://api.infobip.com"),
  GOOGLE_CLIENT_ID: optional,
  GOOGLE_CERTS_URL: baseUrl.default("https://www.googleapis.com/oauth2/v3/certs"),
  GITHUB_CLIENT_ID: optional,
  GITHUB_CLIENT_SECRET: optional,
  GITHUB_URL: baseUrl.default("https://github.com"),
  GITHUB_API_URL: baseUrl.default("https://api.github.com"),
  MAIL_HOOK_URL: optional,
  MAIL_HOOK_SECRET: optional,
  SIGNUP: z.enum(["open", "invite", "closed"]).default("open"),
  PLAN_CHANGES: z.enum(["members", "operator"]).default("members"),
  ENTERPRISE_HOURLY: z.coerce.number().int().positive().default(100_000),
  ENTERPRISE_DAILY: z.coerce.number().int().positive().default(1_000_000),
  /** Origins besides our own whose pages may open live sockets, separated by commas. */
  LIVE_ORIGINS: origins,
  SANDBOX_URL: optional,
  /** Hosts that addresses of tenants may name though they are not public: development only, separated by commas. */
  PRIVATE_FETCH_HOSTS: hosts,
  PIPELINE: pipelineText,
});

export type Config = z.output<typeof settingsSchema>;

const parsed = new WeakMap<object, Config>();

/**
 * The deployment's settings, parsed once per isolate. Throws `misconfigured` naming every bad setting: a Worker
 * without a strong SECRET_KEY answers nothing else.
 */
export function readConfig(env: object): Config {
  const known = parsed.get(env);
  if (known) return known;
  const result = settingsSchema.safeParse(env);
  if (!result.success) {
    throw new AppError("misconfigured", result.error.issues.map(described).join("; "));
  }
  parsed.set(env, result.data);
  return result.data;
}

/** Zod's own words name no setting; ours do. */
function described({ path, message }: z.core.$ZodIssue): string {
  return message.includes(String(path[0])) ? message : `${path.join(".")}: ${message}`;
}

/** The value of a setting that something needs now, or a 400 that names it (contract 22). */
export function requireSetting<K extends keyof Config>(config: Config, name: K): NonNullable<Config[K]> {
  const value = config[name];
  if (value === undefined || value === null) {
    throw new AppError("not_configured", `The setting ${name} of this deployment is missing`);
  }
  return value;
}
