import { DurableObject } from "cloudflare:workers";
import { systemClock } from "../src/platform/clock";
import type { LiveFrame } from "../src/realtime/events";
import { conversationClientFrame, SOCKET_LIFETIME, TYPING_LASTS } from "../src/realtime/frames";
import { maySee, readConnect, type SocketOwner, type Thread } from "../src/realtime/seat";
import { type LiveSocket, LiveSockets, read, remember, send } from "./live-sockets";
import { PairRate } from "./pair-rate";
import { SpentTickets } from "./spent-tickets";

/** Published writes a socket remembers, to show each once. */
const REMEMBERED_WRITES = 32;

/**
 * One pair of number and person: order and pace of what is sent, and the agents who look at the thread. Admitting
 * writes nothing; what sockets need stands in their attachments.
 */
export class Conversation extends DurableObject<Env> {
  readonly #clock = systemClock;
  readonly #rate = new PairRate();
  readonly #sockets = new LiveSockets(this.ctx, this.#clock);
  readonly #tickets = new SpentTickets(this.ctx.storage.sql);
  /** Sockets being opened: the hub was told already that somebody looks, and nobody may tell it otherwise. */
  #opening = 0;
  #version = 0;

  /** The place of a send in its conversation and the earliest time (ms) it may leave; see PairRate. */
  async admit(now: number, interval: number, burst: number): Promise<{ seq: number; notBefore: number }> {
    return this.#rate.admit(now, interval, burst);
  }

  /** Shows a write to those who look at the thread, each once. Nobody there: the hub is told so. */
  async publish(thread: Thread, frame: LiveFrame): Promise<void> {
    const sockets = this.#lookingAt(thread);
    for (const { socket, state } of sockets) {
      if (state.seen.includes(frame.seq)) continue;
      const events = frame.events.filter((event) => maySee(state.seat.role, event.type));
      if (events.length > 0) send(socket, { ...frame, events });
      remember(socket, { seen: [...state.seen, frame.seq].slice(-REMEMBERED_WRITES) });
    }
    if (sockets.length === 0) await this.#unwatch(thread);
  }

  /** Ends the access of `owner` here. */
  async closeSockets(owner: SocketOwner): Promise<void> {
    this.#sockets.closeOf(owner);
    this.#showPresence();
  }

  /** The person was erased: whoever looks is sent away, and nothing is kept. */
  async forget(): Promise<void> {
    this.#sockets.closeOf("all");
    this.#tickets.forget();
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
  }

  /** The upgrade. 403: used ticket or ended access; 429: too many sockets. */
  override async fetch(request: Request): Promise<Response> {
    const connect = readConnect(request);
    const { seat, thread, ticket } = connect;
    if (!thread) throw new Error("A conversation's socket names its thread");
    if (ticket && !this.#tickets.spend(ticket, this.#clock())) return new Response(null, { status: 403 });
    if (!this.#sockets.hasRoom(seat)) return new Response(null, { status: 429 });
    this.#opening += 1;
    try {
      const hub = this.env.WORKSPACE_HUB.getByName(thread.workspace_id);
      const watch = { ...thread, version: this.#nextVersion(), until: this.#clock() + SOCKET_LIFETIME };
      const { allowed, seq } = await hub.watch(watch, seat, connect.issued_at);
      if (!allowed) return new Response(null, { status: 403 });
      const { client, opened } = await this.#sockets.open(connect);
      send(opened, { type: "hello", seq });
      this.#showPresence();
      return new Response(null, { status: 101, webSocket: client });
    } finally {
      this.#opening -= 1;
    }
  }

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    const frame = this.#sockets.receive(socket, message, conversationClientFrame);
    if (!frame) return;
    switch (frame.type) {
      case "ping":
        return send(socket, { type: "pong" });
      case "typing":
        remember(socket, { typing_until: frame.on ? this.#clock() + TYPING_LASTS : 0 });
        return this.#showPresence();
    }
  }

  override async webSocketClose(socket: WebSocket): Promise<void> {
    await this.#left(socket);
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    await this.#left(socket);
  }

  override async alarm(): Promise<void> {
    await this.#sockets.expire();
    this.#showPresence();
  }

  async #left(socket: WebSocket): Promise<void> {
    this.#showPresence(socket);
    const { thread } = read(socket);
    if (!thread) return;
    const others = this.#lookingAt(thread).filter((other) => other.socket !== socket);
    if (others.length === 0) await this.#unwatch(thread);
  }

  /** A merged thread and the one it was merged into share an object. */
  #lookingAt(thread: Thread): LiveSocket[] {
    return this.#sockets.all().filter(({ state }) => state.thread?.conversation_id === thread.conversation_id);
  }

  async #unwatch(thread: Thread): Promise<void> {
    if (this.#opening > 0) return;
    const hub = this.env.WORKSPACE_HUB.getByName(thread.workspace_id);
    await hub.unwatch({ ...thread, version: this.#nextVersion() });
  }

  /** Grows across evictions, because time does. */
  #nextVersion(): number {
    this.#version = Math.max(this.#version + 1, this.#clock());
    return this.#version;
  }

  /** Who looks, each member once however many tabs are open. An API key is nobody. */
  #showPresence(leaving?: WebSocket): void {
    const now = this.#clock();
    const here = this.#sockets.all().filter(({ socket }) => socket !== leaving);
    const agents = new Map<string, boolean>();
    for (const { state } of here) {
      const { user_id } = state.seat;
      if (user_id !== null) agents.set(user_id, agents.get(user_id) === true || state.typing_until > now);
    }
    const shown = [...agents].map(([user_id, typing]) => ({ user_id, typing }));
    shown.sort((a, b) => (a.user_id < b.user_id ? -1 : 1));
    for (const { socket } of here) send(socket, { type: "presence", agents: shown });
  }
}
