export interface GraphReply {
  status: number;
  headers: Headers;
  body: Record<string, unknown>;
}

export interface GraphErrorBody {
  error: {
    message: string;
    type: string;
    code: number;
    error_subcode?: number;
    error_data?: { details: string };
    fbtrace_id: string;
  };
}

/** A call of the Graph API as a client would make it, without any of the product's code. */
export async function graph(
  method: "GET" | "POST" | "DELETE",
  path: string,
  body?: unknown,
  token: string | null = "EAAtest",
): Promise<GraphReply> {
  const response = await fetch(`https://graph.facebook.com/v25.0${path}`, {
    method,
    headers: {
      ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
      ...(body === undefined || body instanceof FormData ? {} : { "Content-Type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** The smallest text message, with whatever a test adds or replaces. */
export function textMessage(extra: Record<string, unknown> = {}): Record<string, unknown> {
  return { messaging_product: "whatsapp", to: "+15550001111", type: "text", text: { body: "Hello" }, ...extra };
}
