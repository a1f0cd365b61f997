import { z } from "zod";
import { type Answer, answer, type ConnectionFault } from "../answer";
import type { AccountRecord } from "../meta/accounts";
import { provenOverride, showSubscribedApps, subscribeApp } from "../meta/callbacks";
import { GraphError, noSuchObject } from "../meta/graph-error";
import { editProfile, fieldNames, registerNumber, requirePhoneId, showNumber, showProfile } from "../meta/numbers";
import { accessToken, debugToken } from "../meta/oauth";
import { checkToken } from "../meta/tokens";
import type { GraphCommand } from "./commands";
import type { Core } from "./core";
import { waitOf } from "./faults";
import { count } from "./storage";

const paramsSchema = z.record(z.string(), z.unknown());

const webhookConfiguration = z.object({
  url: z.url({ protocol: /^https?$/ }),
  headers: z.record(z.string(), z.string()).default({}),
});

const APP_ID = "1000000000000001";

/** One call of the Graph API. Never throws for what Meta would refuse: the refusal is the answer. */
export async function performGraph(core: Core, command: GraphCommand): Promise<Answer> {
  count(core.storage, `call:${command.kind}`);
  try {
    return await perform(core, command);
  } catch (error) {
    if (!(error instanceof GraphError)) throw error;
    count(core.storage, `refused:${error.code}`);
    return error.answer();
  }
}

async function perform(core: Core, command: GraphCommand): Promise<Answer> {
  // The only calls without a token: they carry the app's own credentials.
  if (command.kind === "oauth") {
    return answer(accessToken(core.storage, core.accounts, core.config.META_APP_SECRET, read(command.params)));
  }
  const token = checkToken(command.token);
  if (command.kind === "message.post") {
    const phoneId = requirePhoneId(command.phoneId, "post");
    return core.messages.post(phoneId, core.accounts.number(phoneId, token), read(command.params));
  }
  const fault = faultOf(core, command);
  if (fault?.before) return { ...answer({}), fault: fault.connection };
  const given = await manage(core, command, token);
  return fault === null ? given : { ...given, fault: fault.connection };
}

type ManagementCommand = Exclude<GraphCommand, { kind: "oauth" | "message.post" }>;

/** The fault that hits a call other than a send: before the act, or (a lost or slow answer) after it. */
function faultOf(core: Core, command: ManagementCommand): { before: boolean; connection: ConnectionFault } | null {
  const phoneId = "phoneId" in command ? command.phoneId : "id" in command ? command.id : null;
  const fault = core.faults.draw({ sends: false, phoneId, to: null });
  switch (fault?.kind) {
    case undefined:
      return null;
    case "error":
      throw new GraphError(fault.code, { status: fault.http_status });
    case "rate_limit":
      throw new GraphError(80007, { status: fault.http_status ?? 429, retryAfter: fault.retry_after });
    case "timeout":
      return { before: true, connection: { kind: "hold", ms: waitOf(fault) } };
    case "reset":
      return { before: true, connection: { kind: "cut" } };
    case "drop_after_accept":
      return { before: false, connection: { kind: "cut" } };
    case "slow":
      return { before: false, connection: { kind: "slow", ms: waitOf(fault) } };
  }
}

async function manage(core: Core, command: ManagementCommand, token: string): Promise<Answer> {
  const { accounts, media, templates } = core;
  switch (command.kind) {
    case "media.create": {
      const phoneId = requirePhoneId(command.phoneId, "post");
      accounts.number(phoneId, token);
      media.add(phoneId, command.file);
      return answer({ id: command.file.id });
    }
    case "media.open":
      return answer(media.open(command.id, command.expires, command.mark));
    case "node.get":
      return answer(showNode(core, command.id, command.fields, command.origin, token));
    case "node.post":
      return postNode(core, command.id, read(command.params), token);
    case "node.delete":
      media.remove(media.require(command.id, "delete").id);
      return answer({ success: true });
    case "number.register":
    case "number.deregister": {
      const phoneId = requirePhoneId(command.phoneId, "post");
      const number = accounts.number(phoneId, token);
      if (command.kind === "number.register") registerNumber(accounts, phoneId, number, read(command.params));
      else accounts.saveNumber(phoneId, { ...number, registered: false });
      return answer({ success: true });
    }
    case "profile.get": {
      const phoneId = requirePhoneId(command.phoneId, "get");
      return answer(showProfile(accounts.number(phoneId, token), command.fields));
    }
    case "profile.post": {
      const phoneId = requirePhoneId(command.phoneId, "post");
      editProfile(accounts, phoneId, accounts.number(phoneId, token), read(command.params));
      return answer({ success: true });
    }
    case "account.numbers": {
      accounts.account(accountId(command.wabaId), token);
      const data = accounts.numbers(command.wabaId).map(([id, number]) => showNumber(id, number, command.fields));
      const first = data[0]?.id;
      const last = data.at(-1)?.id;
      const paging =
        data.length === 0 ? {} : { paging: { cursors: { before: btoa(String(first)), after: btoa(String(last)) } } };
      return answer({ data, ...paging });
    }
    case "templates.get":
      accounts.account(accountId(command.wabaId), token);
      return answer(templates.page(command.wabaId, read(command.params)));
    case "templates.post":
      accounts.account(accountId(command.wabaId), token);
      return answer(templates.create(command.wabaId, read(command.params)));
    case "templates.delete":
      accounts.account(accountId(command.wabaId), token);
      return answer(templates.remove(command.wabaId, read(command.params)));
    case "subscribed.get":
      return answer(showSubscribedApps(accounts, accountId(command.wabaId), token, APP_ID));
    case "subscribed.post": {
      accounts.account(accountId(command.wabaId), token);
      const override = await provenOverride(core.fetcher, read(command.params));
      return saveAccount(core, command.wabaId, { subscribed: true, override });
    }
    case "subscribed.delete":
      accounts.account(accountId(command.wabaId), token);
      return saveAccount(core, command.wabaId, { subscribed: false, override: null });
    case "subscriptions.get":
      return answer({
        data: [
          {
            object: "whatsapp_business_account",
            callback_url: accounts.appCallbackUrl(),
            active: true,
            fields: (core.storage.kv.get<string[]>("subscription_fields") ?? ["messages"]).map((name) => ({
              name,
              version: "v25.0",
            })),
          },
        ],
      });
    case "subscriptions.post": {
      const { callback_url, fields } = await subscribeApp(core.fetcher, read(command.params));
      core.settings.patch({ callback_url });
      core.storage.kv.put("subscription_fields", typeof fields === "string" ? fieldNames(fields) : fields);
      return answer({ success: true });
    }
    case "subscriptions.delete":
      core.settings.patch({ callback_url: null });
      core.storage.kv.delete("subscription_fields");
      return answer({ success: true });
    case "webhook.configure": {
      const { url, headers } = webhookConfiguration.parse(read(command.params));
      const number = accounts.number(command.phoneId, token);
      const override = { override_callback_uri: url, verify_token: "", headers };
      accounts.saveNumber(command.phoneId, { ...number, override });
      return saveAccount(core, number.wabaId, { subscribed: true, override });
    }
    case "debug_token":
      return answer(debugToken(accounts, core.clock, APP_ID, command.inputToken));
  }
}

/** A node by its id alone: what it is follows from who made it; any other number is a phone number. */
function showNode(core: Core, id: string, fields: string | null, origin: string, token: string): unknown {
  const file = core.media.find(id);
  if (file) return core.media.show(file, origin);
  if (core.templates.get(id)) return core.templates.show(id, fields);
  if (core.accounts.knownNumber(id) === null && core.accounts.isAccount(id))
    return { id, name: `Sandbox account ${id.slice(-4)}` };
  const phoneId = requirePhoneId(id, "get");
  return showNumber(phoneId, core.accounts.number(phoneId, token), fields);
}

async function postNode(core: Core, id: string, params: Record<string, unknown>, token: string): Promise<Answer> {
  if (core.templates.get(id)) return answer(core.templates.edit(id, params));
  const phoneId = requirePhoneId(id, "post");
  if (!("webhook_configuration" in params)) throw noSuchObject(id, "post");
  const override = await provenOverride(core.fetcher, jsonOrValue(params.webhook_configuration));
  core.accounts.saveNumber(phoneId, { ...core.accounts.number(phoneId, token), override });
  return answer({ success: true });
}

function saveAccount(core: Core, wabaId: string, record: AccountRecord): Answer {
  core.accounts.saveAccount(wabaId, record);
  return answer({ success: true });
}

function accountId(id: string): string {
  if (!/^[1-9]\d*$/.test(id)) throw noSuchObject(id);
  return id;
}

function read(params: string): Record<string, unknown> {
  return paramsSchema.parse(JSON.parse(params));
}

/** An object that a form or query carried as JSON text. */
function jsonOrValue(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}
