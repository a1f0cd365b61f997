import { vi } from "vitest";
import { api } from "../../src/api";

export interface CapturedPost {
  url: string;
  headers: Headers;
  bytes: Uint8Array;
}

/**
 * Stands in for the app, so that what the sandbox posts can be looked at byte by byte. `status` says what the app
 * answers to the n-th call, `text` with which body (the challenge of an address, say).
 */
export function captureWebhooks(
  status: (call: number) => number = () => 200,
  text: (url: string) => string | null = () => "seen",
) {
  const posts: CapturedPost[] = [];
  const spy = vi.spyOn(api, "fetch").mockImplementation(async (request: Request) => {
    posts.push({ url: request.url, headers: request.headers, bytes: new Uint8Array(await request.arrayBuffer()) });
    return new Response(text(request.url), { status: status(posts.length) });
  });
  return { posts, restore: () => spy.mockRestore() };
}
