/** Somebody's server in the sandbox (sandbox/receiver.ts): what it was sent, and how it answers. */
export interface ReceivedCall {
  method: string;
  url: string;
  path: string;
  headers: Record<string, string>;
  body: string;
  at: number;
}

/** How it answers, in this order: `count` times, or for ever; only bodies `holding` a text; `delay` in ms. */
export interface Reply {
  status?: number;
  body?: string;
  headers?: Record<string, string>;
  delay?: number;
  count?: number;
  holding?: string;
  broken?: boolean;
}

// Taken when the file is loaded, so that a test that replaces the global fetch still reaches the sandbox.
const outbound = globalThis.fetch.bind(globalThis);

/** An address nobody else has. It says 200 to everything until told otherwise. */
export function hooks() {
  const path = `/${crypto.randomUUID()}`;
  const control = "https://sandbox.test/sandbox/receiver";
  return {
    url: `https://hooks.example.com${path}`,
    async answers(...replies: Reply[]): Promise<void> {
      const response = await outbound(control, { method: "POST", body: JSON.stringify({ path, replies }) });
      if (!response.ok) throw new Error(await response.text());
      await response.text();
    },
    async received(): Promise<ReceivedCall[]> {
      const response = await outbound(`${control}?path=${path}`);
      return (await response.json<{ data: ReceivedCall[] }>()).data;
    },
  };
}

export type Hook = ReturnType<typeof hooks>;
