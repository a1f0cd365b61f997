/**
 * The least a webhook receiver can do: read the body, verify the HMAC, put it into a queue. The measure of what
 * everything else of ours costs at the door.
 */
interface BareEnv {
  QUEUE: Queue<string>;
  META_APP_SECRET: string;
}

let key: Promise<CryptoKey> | undefined;

function hmacKey(secret: string): Promise<CryptoKey> {
  key ??= crypto.subtle.importKey("raw", new TextEncoder().encode(secret), { name: "HMAC", hash: "SHA-256" }, false, [
    "verify",
  ]);
  return key;
}

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

export default {
  async fetch(request, env) {
    const bytes = await request.arrayBuffer();
    const signature = fromHex((request.headers.get("x-hub-signature-256") ?? "").replace("sha256=", ""));
    const signed = await crypto.subtle.verify("HMAC", await hmacKey(env.META_APP_SECRET), signature, bytes);
    if (!signed) return new Response(null, { status: 401 });
    await env.QUEUE.send(new TextDecoder().decode(bytes), { contentType: "text" });
    return new Response(null, { status: 200 });
  },
} satisfies ExportedHandler<BareEnv>;
