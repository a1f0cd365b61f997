import { z } from "zod";
import type { SandboxConfig } from "../env";
import type { Storage } from "./storage";

const statusNames = ["sent", "delivered", "read", "played"] as const;
export type PositiveStatus = (typeof statusNames)[number];

const milliseconds = z.int().min(0).max(3_600_000);

const settingsSchema = z.strictObject({
  /** Where webhooks go; null means the address the sandbox was started with. */
  callback_url: z.url({ protocol: /^https?$/ }).nullable(),
  /** Delivers by alarm and again until answered with 200. Never in tests: there only a flush delivers. */
  auto_deliver: z.boolean(),
  /** The statuses that follow an accepted message. */
  statuses: z.array(z.enum(statusNames)),
  /** How long after acceptance (statuses), the customer's message (inbound) or creation (review) a webhook is due. */
  delays: z.strictObject({
    sent: milliseconds,
    delivered: milliseconds,
    read: milliseconds,
    played: milliseconds,
    inbound: milliseconds,
    review: milliseconds,
  }),
  order: z.enum(["in", "reverse", "shuffle"]),
  /** How often each item is delivered in all. */
  duplicate: z.int().min(1).max(20),
  /** Items in one POST, at most. Meta sends up to 1,000. */
  batch: z.int().min(1).max(1_000),
  /** POSTs under way at once. */
  concurrency: z.int().min(1).max(50),
  seed: z.int().min(0).nullable(),
  auto_review: z.enum(["approve", "off"]),
  /** Seconds a media address works. */
  media_url_ttl: z.int().min(0).max(3_600),
  /** Messages a number may send in one second before 130429; 0 is no limit. */
  throughput: z.int().min(0).max(10_000),
  /** Whether free-form messages outside the 24 hours after a customer's message fail with 131047. */
  service_window: z.boolean(),
  /** Whether templates are answered with held_for_quality_assessment. */
  hold_templates: z.boolean(),
});

export type Settings = z.output<typeof settingsSchema>;

export const settingsPatch = settingsSchema.extend({ delays: settingsSchema.shape.delays.partial() }).partial();

export type SettingsPatch = z.output<typeof settingsPatch>;

function defaults(mode: SandboxConfig["MODE"]): Settings {
  const dev = mode === "dev";
  return {
    callback_url: null,
    auto_deliver: dev,
    statuses: ["sent", "delivered", "read"],
    delays: dev
      ? { sent: 150, delivered: 500, read: 1_200, played: 2_000, inbound: 50, review: 2_000 }
      : { sent: 0, delivered: 0, read: 0, played: 0, inbound: 0, review: 0 },
    order: "in",
    duplicate: 1,
    batch: dev ? 100 : 1,
    concurrency: 4,
    seed: null,
    auto_review: dev ? "approve" : "off",
    media_url_ttl: 300,
    throughput: 0,
    service_window: false,
    hold_templates: false,
  };
}

/** The sandbox's switches: kept across restarts, back to their defaults after a reset. */
export class SettingsStore {
  private readonly storage: Storage;
  private readonly mode: SandboxConfig["MODE"];
  private cached: Settings | null = null;

  constructor(storage: Storage, mode: SandboxConfig["MODE"]) {
    this.storage = storage;
    this.mode = mode;
  }

  get(): Settings {
    this.cached ??= { ...defaults(this.mode), ...this.storage.kv.get<Partial<Settings>>("settings") };
    return this.cached;
  }

  patch(patch: SettingsPatch): Settings {
    const current = this.get();
    const next: Settings = { ...current, ...patch, delays: { ...current.delays, ...patch.delays } };
    if (this.mode === "test") next.auto_deliver = false;
    this.storage.kv.put("settings", next);
    this.cached = next;
    return next;
  }

  forget(): void {
    this.cached = null;
  }
}
