/** What the sandbox's assistant (sandbox/ai.ts) was asked. */
interface AskedChat {
  authorization: string | null;
  body: {
    model: string;
    messages: { role: string; content: string }[];
    max_tokens?: number;
    [member: string]: unknown;
  };
}

// Taken when the file is loaded, so that a test that replaces the global fetch still reaches the sandbox.
const outbound = globalThis.fetch.bind(globalThis);

/** The chats that held this text, oldest first. */
export async function chatsHolding(text: string): Promise<AskedChat[]> {
  const response = await outbound(`https://sandbox.test/sandbox/ai?holding=${encodeURIComponent(text)}`);
  return (await response.json<{ data: AskedChat[] }>()).data;
}
