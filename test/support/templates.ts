import { expect } from "vitest";
import { newWorkspace, type TestWorkspace } from "./identity";
import { registerNumber } from "./numbers";
import { sandbox } from "./sandbox";

export type Body = Record<string, unknown>;

/** A workspace with a number whose business account no other test's token can see. */
export async function withAccount(workspace?: TestWorkspace) {
  const owner = workspace ?? (await newWorkspace());
  const token = `EAA${crypto.randomUUID().replaceAll("-", "")}`;
  const number = await registerNumber(owner, { access_token: token });
  const businessId = number.businessId ?? "";
  return { workspace: owner, number, businessId, token };
}

export type Account = Awaited<ReturnType<typeof withAccount>>;

/** The documented request (003, Create Template). */
export function welcome(account: Pick<Account, "workspace" | "number">, extra: Body = {}): Body {
  return {
    workspace_id: account.workspace.workspaceId,
    phone_number_id: account.number.id,
    name: "welcome_message",
    category: "MARKETING",
    language: "en",
    components: {
      body: { text: "Hello {{1}}, welcome to our service!" },
      footer: { text: "Reply STOP to unsubscribe" },
    },
    ...extra,
  };
}

export async function bodyOf(response: Response, status: number): Promise<Body> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text);
}

export async function make(account: Account, extra: Body = {}): Promise<Body> {
  return bodyOf(await account.workspace.call("POST", "/api/templates", welcome(account, extra)), 201);
}

/** A template that the provider approved, as a webhook told. */
export async function approved(account: Account, extra: Body = {}): Promise<Body> {
  const template = await make(account, extra);
  await sandbox.review(String(template.meta_template_id), "APPROVED");
  return bodyOf(await account.workspace.call("PATCH", `/api/templates/${template.id}`, { status: "APPROVED" }), 200);
}

/** What the provider holds of an account. */
export async function atProvider(account: Pick<Account, "businessId">): Promise<Body[]> {
  const { data } = await sandbox.templates();
  return data.filter((template) => template.waba_id === account.businessId);
}

/** Where a 422 says something is wrong. */
export async function refusedAt(response: Response): Promise<(string | number)[]> {
  const body = await bodyOf(response, 422);
  const [first] = body.detail as { loc: (string | number)[] }[];
  return first?.loc ?? [];
}
