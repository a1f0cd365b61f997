import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { openConnection, resolveNumber } from "../src/phone-numbers/service";
import { createRuntime, shard } from "../src/platform/runtime";
import { registerNumber } from "./support/numbers";

const rt = createRuntime(env);

describe("which number a call means", () => {
  it("takes our id, the provider's id, or the default one", async () => {
    const workspace = { id: rt.newId() };
    const db = shard(rt, 0);
    expect(await resolveNumber(db, workspace.id, null)).toBeNull();
    const first = await registerNumber(workspace);
    const second = await registerNumber(workspace);
    expect(await resolveNumber(db, workspace.id, second.id)).toEqual(second);
    expect((await resolveNumber(db, workspace.id, second.providerNumberId))?.id).toBe(second.id);
    expect((await resolveNumber(db, workspace.id, null))?.id).toBe(first.id);
    const chosen = await registerNumber(workspace, { is_default: true });
    expect((await resolveNumber(db, workspace.id, null))?.id).toBe(chosen.id);
    expect(await resolveNumber(db, rt.newId(), second.id)).toBeNull();
    expect(await openConnection(rt, second)).toMatchObject({ provider: "meta", accessToken: "sandbox-token" });
  });
});
