import { DurableObject } from "cloudflare:workers";
import { type Answer, answer, ControlError } from "../answer";
import { readConfig, type SandboxEnv } from "../env";
import type { Command } from "./commands";
import { performControl } from "./control-commands";
import { Core } from "./core";
import { performGraph } from "./graph-commands";

/** The one object that holds everything the sandbox knows. Single-threaded, so its counts can be trusted. */
export class SandboxState extends DurableObject<SandboxEnv> {
  private readonly core: Core | null;
  /** When the alarm is set for, as far as this instance knows. */
  private alarmAt: number | null = null;

  constructor(ctx: DurableObjectState, env: SandboxEnv) {
    super(ctx, env);
    const config = readConfig(env);
    this.core = config
      ? new Core({
          storage: ctx.storage,
          clock: Date.now,
          config,
          fetcher: (url, init) => (env.APP ? env.APP.fetch(url, init) : fetch(url, init)),
          onDue: (due) => this.wakeAt(due),
        })
      : null;
    this.wakeForNext();
  }

  /** Answers one command. Refusals are answers; only a defect of the sandbox throws. */
  async perform(command: Command): Promise<Answer> {
    if (!this.core) return answer({ error: "The sandbox is not configured" }, 503);
    try {
      if (command.surface === "graph") return await performGraph(this.core, command);
      if (command.surface === "infobip") return this.core.infobip.perform(command);
      const given = await performControl(this.core, command);
      // An order may have switched delivery on.
      this.wakeForNext();
      return given;
    } catch (error) {
      if (error instanceof ControlError) return answer({ error: error.message }, error.status);
      throw error;
    }
  }

  override async alarm(): Promise<void> {
    this.alarmAt = null;
    if (!this.core) return;
    try {
      await this.core.run();
      this.wakeForNext();
    } catch (error) {
      // An alarm that fails often is given up by the platform, and unsettled webhooks must not be.
      console.log(JSON.stringify({ event: "sandbox_alarm_failed", error: String(error) }));
      this.wakeAt(Date.now() + 1_000);
    }
  }

  private wakeForNext(): void {
    const next = this.core?.nextDue() ?? null;
    if (next !== null) this.wakeAt(next);
  }

  /** In tests there is no timer at all: webhooks go out on a flush, reviews are ordered. */
  private wakeAt(due: number): void {
    if (this.core?.config.MODE === "test" || (this.alarmAt !== null && this.alarmAt <= due)) return;
    this.alarmAt = due;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(Math.max(due, Date.now())));
  }
}
