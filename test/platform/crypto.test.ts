import { describe, expect, it } from "vitest";
import {
  deriveKey,
  fromBase64Url,
  fromHex,
  hmacSha256,
  open,
  randomToken,
  safeEqual,
  seal,
  toBase64Url,
  toHex,
  utf8,
  verifyHmacSha256,
} from "../../src/platform/crypto";

const keys = { current: "current-master-secret-0123456789-abcdef", previous: undefined };
const place = { table: "phone_numbers", column: "access_token_sealed", workspaceId: "w1", rowId: "r1" };

describe("what is sealed", () => {
  it("opens in its own place only", async () => {
    const sealed = await seal(keys, place, "EAA-token ☃");
    expect(sealed).not.toContain("EAA");
    expect(await open(keys, place, sealed)).toBe("EAA-token ☃");
    const elsewhere = [
      { ...place, table: "workspaces" },
      { ...place, column: "app_secret_sealed" },
      { ...place, workspaceId: "w2" },
      { ...place, rowId: "r2" },
    ];
    for (const context of elsewhere) await expect(open(keys, context, sealed)).rejects.toThrow();
  });

  it("never looks the same twice", async () => {
    const [one, two] = await Promise.all([seal(keys, place, "same"), seal(keys, place, "same")]);
    expect(one).not.toBe(two);
  });

  it("does not open when a single character was altered", async () => {
    const sealed = await seal(keys, place, "secret");
    const flip = (text: string, at: number) => text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1);
    const body = sealed.lastIndexOf(".") + 1;
    for (const at of [0, 3, 12, 14, body, body + 5])
      await expect(open(keys, place, flip(sealed, at))).rejects.toThrow();
    for (const broken of ["", "v1", "v1.a.b.c", sealed.slice(0, -4), `${sealed}.x.y`.replace("v1.", "v2.")]) {
      await expect(open(keys, place, broken)).rejects.toThrow();
    }
  });

  it("opens after the master secret was rotated, until the previous one is dropped", async () => {
    const sealed = await seal(keys, place, "before");
    const next = "next-master-secret-9876543210-fedcba";
    expect(await open({ current: next, previous: keys.current }, place, sealed)).toBe("before");
    await expect(open({ current: next, previous: undefined }, place, sealed)).rejects.toThrow(
      "not configured any more",
    );
    const again = await seal({ current: next, previous: keys.current }, place, "after");
    expect(await open({ current: next, previous: undefined }, place, again)).toBe("after");
  });
});

describe("keys", () => {
  it("serve one purpose each, and follow the master", async () => {
    const purposes = ["jwt", "seal", "ticket", "media-url", "connection", "invitation", "email", "cursor"] as const;
    const made = await Promise.all(purposes.map(async (purpose) => toHex(await deriveKey(keys.current, purpose))));
    expect(new Set(made).size).toBe(purposes.length);
    expect(made.every((hex) => hex.length === 64)).toBe(true);
    expect(made).not.toContain(toHex(await deriveKey("another-master-secret-0123456789-abc", "jwt")));
    expect(toHex(await deriveKey(keys.current, "jwt"))).toBe(made[0]);
  });

  it("of callers are 256 random bits", () => {
    const made = Array.from({ length: 100 }, () => randomToken("wsk_"));
    expect(new Set(made).size).toBe(100);
    for (const token of made) expect(fromBase64Url(token.slice(4))).toHaveLength(32);
  });
});

describe("comparisons", () => {
  it("take texts of any length", async () => {
    expect(await safeEqual("", "")).toBe(true);
    expect(await safeEqual("token", "token")).toBe(true);
    for (const other of ["", "toke", "tokenn", "Token", "☃"]) expect(await safeEqual("token", other)).toBe(false);
  });

  it("of signatures refuse another length, another byte and another secret", async () => {
    // RFC 4231, test case 2.
    const signature = await hmacSha256("Jefe", "what do ya want for nothing?");
    expect(toHex(signature)).toBe("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    const message = utf8("what do ya want for nothing?");
    expect(await verifyHmacSha256("Jefe", message, signature)).toBe(true);
    expect(await verifyHmacSha256("Jeff", message, signature)).toBe(false);
    expect(await verifyHmacSha256("Jefe", message, signature.slice(0, 31))).toBe(false);
    expect(await verifyHmacSha256("Jefe", message, new Uint8Array())).toBe(false);
    expect(await verifyHmacSha256("Jefe", utf8("what do ya want for nothing"), signature)).toBe(false);
  });
});

describe("encodings", () => {
  it("round every byte, and answer null for what is none of theirs", () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
    expect(fromHex(toHex(bytes))).toEqual(bytes);
    expect(fromBase64Url(toBase64Url(bytes))).toEqual(bytes);
    expect(toBase64Url(bytes)).not.toMatch(/[+/=]/);
    for (const text of ["", "f", "fg", "0x", "ff ", "fff"]) expect(fromHex(text), text).toBeNull();
    for (const text of ["a+b", "a/b", "YQ==", "a b", "ä", "a"]) expect(fromBase64Url(text), text).toBeNull();
  });
});
