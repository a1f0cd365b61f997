import { env, exports } from "cloudflare:workers";
import { expect, it } from "vitest";

it("answers an unknown path with the documented 404", async () => {
  const response = await exports.default.fetch("http://x/api/nothing/");
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ detail: "Resource not found", code: "not_found" });
  expect(await env.SHARD_1.prepare("SELECT count(*) AS n FROM messages").first("n")).toBe(0);
});
