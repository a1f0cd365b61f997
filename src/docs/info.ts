/** What the OpenAPI document says of the API as a whole; operations describe themselves where they are implemented. */
export const DOCUMENT = {
  openapi: "3.1.0",
  info: {
    title: "Switchboard",
    version: "1.0.0",
    description: [
      "A WhatsApp Business platform at the edge.",
      "Every path answers with and without a trailing slash. Every answer carries `X-Request-Id`.",
      "Send `Authorization: Bearer …` with a user's access token or a workspace's API key (`wsk_…`), or the key alone as `X-API-Key`. " +
        "A call that names no workspace acts on the key's own, on the token's `workspace_id` claim, on `X-Workspace-Id`, or on the user's oldest membership, in this order. " +
        "What belongs to another workspace is a 404.",
      "Lists take `limit` (1–100, default 20), `offset` and `cursor`, and answer `{data, total, limit, offset, next_cursor}`.",
      "A `POST` that sends takes `Idempotency-Key`: the same key and body get the first answer again and nothing is sent twice.",
      "Answers of a workspace carry `X-D1-Bookmark`; a request that sends it back never reads older data.",
      "Counted calls carry `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds); a 429 adds `Retry-After`.",
      "Refusals answer `{detail, code, request_id}`; those of a value (422) have a list of `{loc, msg, type}` as `detail`.",
    ].join("\n\n"),
  },
  tags: [
    { name: "Authentication", description: "Accounts and sessions." },
    { name: "Workspaces", description: "Workspaces, their members, keys and settings." },
    { name: "Phone numbers", description: "WhatsApp numbers and their connection to the provider." },
    { name: "Messages", description: "Sending, scheduling and following messages." },
    { name: "Conversations", description: "The inbox: threads with people and groups." },
    { name: "Groups", description: "Lists of contacts with a capacity, filled by hand or by themselves." },
    { name: "WordPress", description: "Sites that new contacts are pulled from." },
    { name: "Statuses", description: "The line About of a number's profile, now or at a time." },
    { name: "Webhooks", description: "What providers post to us, and what became of it." },
    { name: "Realtime", description: "WebSockets and server-sent events." },
    { name: "Documentation", description: "This description." },
  ],
};
