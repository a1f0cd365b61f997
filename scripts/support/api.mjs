/** A refusal of the API. */
export class ApiError extends Error {
  /** @param {string} what @param {number} status @param {string} body */
  constructor(what, status, body) {
    super(`${what} answered ${status}: ${body.slice(0, 500)}`);
    this.status = status;
  }
}

/**
 * A small client of one origin. Answers the parsed body; throws ApiError on a refusal.
 * @param {string} origin
 */
export function apiClient(origin) {
  /**
   * @param {string} method @param {string} path
   * @param {{ token?: string, body?: unknown, headers?: Record<string, string>, timeoutMs?: number }} [options]
   * @returns {Promise<any>}
   */
  return async (method, path, { token, body, headers = {}, timeoutMs = 20_000 } = {}) => {
    const response = await fetch(origin + path, {
      method,
      headers: {
        // The server hangs up on who was silent for five seconds; a pooled connection may be written to just then.
        Connection: "close",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    if (!response.ok) throw new ApiError(`${method} ${path}`, response.status, text);
    return text === "" ? null : JSON.parse(text);
  };
}
