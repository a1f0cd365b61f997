import { z } from "zod";
import type { SandboxState } from "./state/sandbox-state";

/** Bindings of the sandbox Worker. `APP` leads to the app under test; in development the app is reached by its address. */
export interface SandboxEnv {
  STATE: DurableObjectNamespace<SandboxState>;
  MEDIA: R2Bucket;
  APP?: Fetcher;
  MODE?: string;
  APP_URL?: string;
  META_APP_SECRET?: string;
}

const configSchema = z.object({
  MODE: z.enum(["dev", "test"]),
  APP_URL: z.url({ protocol: /^https?$/ }).transform((value) => value.replace(/\/+$/, "")),
  META_APP_SECRET: z.string().min(8),
});

export type SandboxConfig = z.output<typeof configSchema>;

/** The sandbox's settings, or null when one is missing: it then answers nothing, wherever it was deployed. */
export function readConfig(env: SandboxEnv): SandboxConfig | null {
  const parsed = configSchema.safeParse(env);
  return parsed.success ? parsed.data : null;
}
