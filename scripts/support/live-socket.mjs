/**
 * One live socket, as a browser holds it: keeps every event, and lets a step wait for the one it expects.
 */
export class LiveSocket {
  /** @type {any[]} */
  #events = [];
  /** @type {Set<() => void>} */
  #waiting = new Set();
  /** @type {Error | null} */
  #closed = null;

  /** @param {string} url */
  constructor(url) {
    this.socket = new WebSocket(url);
    this.socket.addEventListener("message", ({ data }) => {
      const frame = JSON.parse(data);
      this.#events.push(...(frame.type === "events" ? frame.events : [frame]));
      this.#wake();
    });
    this.socket.addEventListener("close", ({ code, reason }) => {
      this.#closed = new Error(`the socket closed with ${code} ${reason}`);
      this.#wake();
    });
  }

  #wake() {
    for (const wake of this.#waiting) wake();
  }

  /**
   * The first event that matches, seen already or yet to come.
   * @param {(event: any) => boolean} matches
   * @param {number} timeoutMs
   * @returns {Promise<any>}
   */
  until(matches, timeoutMs) {
    return new Promise((resolve, reject) => {
      const settle = () => {
        const event = this.#events.find(matches);
        if (event === undefined && this.#closed === null) return;
        this.#waiting.delete(settle);
        clearTimeout(timer);
        if (event !== undefined) resolve(event);
        else reject(this.#closed);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(settle);
        const seen = this.#events.map((event) => `${event.type} ${event.message?.status ?? ""}`.trim());
        reject(new Error(`nothing within ${timeoutMs / 1000} s; seen: ${seen.join(", ") || "no event"}`));
      }, timeoutMs);
      this.#waiting.add(settle);
      settle();
    });
  }
}
