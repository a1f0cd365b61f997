import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { createRuntime } from "../src/platform/runtime";
import { checkAddress, safeFetch, UnsafeAddress } from "../src/platform/safe-fetch";
import { hooks } from "./support/receiver";

const rules = { privateHosts: [], ownHosts: ["switchboard.example.org"] };
const rt = createRuntime(env);
const plain = { timeout: 2000, maxBytes: 1000 };

describe("an address a tenant names", () => {
  it.each([
    "https://example.org/hook",
    "https://sub.example.org/hook?x=1#y",
    "https://example.org:443/",
    "https://xn--bcher-kva.example.org/",
    "https://999.example.org/",
  ])("%s is called", (address) => {
    expect(checkAddress(address, rules).protocol).toBe("https:");
  });

  it.each([
    ["http://example.org/", "https"],
    ["ftp://example.org/", "https"],
    ["javascript:alert(1)", "https"],
    ["example.org/hook", "https"],
    ["https://example.org:8443/", "port 443"],
    ["https://user:secret@example.org/", "user name"],
    ["https://127.0.0.1/", "IP"],
    ["https://8.8.8.8/", "IP"],
    ["https://2130706433/", "IP"],
    ["https://0x7f.1/", "IP"],
    ["https://0x7f000001/", "IP"],
    ["https://0177.0.0.1/", "IP"],
    ["https://127.1/", "IP"],
    ["https://127.0.0.1./", "IP"],
    ["https://１２７.０.０.１/", "IP"],
    ["https://127。0。0。1/", "IP"],
    ["https://[::1]/", "IP"],
    ["https://[::ffff:127.0.0.1]/", "IP"],
    ["https://[fd00::1]/", "IP"],
    ["https://localhost/", "public host"],
    ["https://localhost./", "public host"],
    ["https://intranet/", "public host"],
    ["https://db.internal/", "public host"],
    ["https://metadata.google.internal/", "public host"],
    ["https://printer.local/", "public host"],
    ["https://app.LOCALHOST/", "public host"],
    ["https://127.0.0.1.nip.io/", "public host"],
    ["https://1.0.0.127.in-addr.arpa/", "public host"],
    ["https://switchboard.example.org/api", "itself"],
    ["https://SWITCHBOARD.example.org./api", "itself"],
  ])("%s is refused", (address, why) => {
    expect(() => checkAddress(address, rules)).toThrow(UnsafeAddress);
    expect(() => checkAddress(address, rules)).toThrow(why);
  });

  it("may be private where the operator says so, at exactly that host and port", () => {
    const own = { ...rules, privateHosts: ["localhost:8001"] };
    expect(checkAddress("http://localhost:8001/hook", own).host).toBe("localhost:8001");
    expect(() => checkAddress("http://localhost:8002/hook", own)).toThrow(UnsafeAddress);
    expect(() => checkAddress("ftp://localhost:8001/hook", own)).toThrow(UnsafeAddress);
  });
});

describe("calling it", () => {
  it("follows a redirect to another public address, without its secrets when the host changes", async () => {
    const hook = hooks();
    const target = hooks();
    await hook.answers({ status: 302, headers: { Location: target.url.replace("hooks.", "ai.") } });
    const away = await safeFetch(rt, hook.url, {
      ...plain,
      method: "POST",
      body: "{}",
      secretHeaders: { Authorization: "Bearer s" },
    });
    expect(away.status).toBe(404);
    expect(new URL(away.url).hostname).toBe("ai.example.com");

    await hook.answers({ status: 307, headers: { Location: new URL(target.url).pathname } });
    const near = await safeFetch(rt, hook.url, {
      ...plain,
      method: "POST",
      body: "{}",
      secretHeaders: { Authorization: "Bearer s" },
    });
    expect(near.status).toBe(200);
    expect(await target.received()).toMatchObject([
      { method: "POST", body: "{}", headers: { authorization: "Bearer s" } },
    ]);
  });

  it.each([
    "http://hooks.example.com/",
    "https://169.254.169.254/latest/meta-data",
    "https://localhost/",
    "https://own.example.org/",
  ])("does not follow a redirect to %s", async (target) => {
    const hook = hooks();
    await hook.answers({ status: 302, headers: { Location: target } });
    const call = safeFetch(rt, hook.url, { ...plain, ownHosts: ["own.example.org"] });
    await expect(call).rejects.toThrow(UnsafeAddress);
    expect(await hook.received()).toHaveLength(1);
  });

  it("ends a circle of redirects", async () => {
    const hook = hooks();
    await hook.answers({ status: 308, headers: { Location: hook.url } });
    await expect(safeFetch(rt, hook.url, plain)).rejects.toThrow("redirects more than");
    expect(await hook.received()).toHaveLength(4);
  });

  it("gives a redirect as the answer where none is followed", async () => {
    const hook = hooks();
    await hook.answers({ status: 301, headers: { Location: "https://localhost/" } });
    expect((await safeFetch(rt, hook.url, { ...plain, redirects: "refuse" })).status).toBe(301);
  });

  it("reads no more than it was told to, and waits no longer", async () => {
    const hook = hooks();
    await hook.answers({ body: "x".repeat(100_000), count: 1 }, { delay: 3000 });
    const answer = await safeFetch(rt, hook.url, plain);
    expect([answer.body.byteLength, answer.cut]).toEqual([1000, true]);
    const startedAt = Date.now();
    await expect(safeFetch(rt, hook.url, { ...plain, timeout: 100 })).rejects.toThrow(/time/i);
    expect(Date.now() - startedAt).toBeLessThan(2500);
  });
});
