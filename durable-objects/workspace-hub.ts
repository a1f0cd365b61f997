import { DurableObject } from "cloudflare:workers";
import { systemClock } from "../src/platform/clock";
import { conversationOf } from "../src/realtime/coalesce";
import type { LiveFrame, WorkspaceEvent } from "../src/realtime/events";
import { hubClientFrame } from "../src/realtime/frames";
import { maySee, readConnect, type Seat, type SocketOwner, type Thread } from "../src/realtime/seat";
import { HubLog } from "./hub-log";
import { LiveSockets, send } from "./live-sockets";
import { SpentTickets } from "./spent-tickets";
import { type Watch, WatchList } from "./watch-list";

/**
 * Shows everything that happens in one workspace. Everything it must not forget is in SQLite or in the attachments
 * of its sockets, so that it hibernates between two events.
 */
export class WorkspaceHub extends DurableObject<Env> {
  readonly #clock = systemClock;
  readonly #sockets = new LiveSockets(this.ctx, this.#clock);
  readonly #log = new HubLog(this.ctx.storage.sql);
  readonly #watched = new WatchList(this.ctx.storage.sql);
  readonly #tickets = new SpentTickets(this.ctx.storage.sql);

  /**
   * Numbers one write, keeps it for those who are away and shows it to those who are there, once per `key`. Answers
   * the number and which of its conversations somebody looks at, the second time too: the first may have ended there.
   */
  async publish(write: {
    key: string;
    events: WorkspaceEvent[];
    bookmark: string | null;
  }): Promise<{ seq: number; viewed: Omit<Thread, "workspace_id">[] }> {
    const conversations = new Set(write.events.map(conversationOf).filter((id) => id !== null));
    const viewed = this.#watched.among([...conversations], this.#clock());
    const before = this.#log.published(write.key);
    if (before !== null) return { seq: before, viewed };
    const frame = this.#log.append(write.key, { type: "events", bookmark: write.bookmark, events: write.events });
    const textFor = perRole(frame);
    for (const { socket, state } of this.#sockets.all()) send(socket, textFor(state.seat.role));
    return { seq: frame.seq, viewed };
  }

  /** A Conversation object says that a socket was opened there. Not allowed: that member's access has ended. */
  async watch(watch: Watch, seat: Seat, issuedAt: number): Promise<{ allowed: boolean; seq: number }> {
    const allowed = !this.#watched.isEnded(seat, issuedAt);
    if (allowed) this.#watched.add(watch, this.#clock());
    return { allowed, seq: this.#log.head() };
  }

  /** A Conversation object says that nobody looks any more. */
  async unwatch(watch: Omit<Watch, "until">): Promise<void> {
    this.#watched.remove(watch);
  }

  /** Ends the access of `owner` here; answers the conversations where it must be ended too. */
  async closeSockets(owner: SocketOwner): Promise<{ objects: string[] }> {
    const now = this.#clock();
    this.#watched.end(owner, now);
    this.#sockets.closeOf(owner);
    return { objects: this.#watched.objects(now) };
  }

  /** Takes an erased person's threads, and messages of theirs elsewhere, out of what is kept here. May run twice. */
  async forget(gone: { conversations: string[]; messages: string[] }): Promise<void> {
    const conversations = new Set(gone.conversations);
    const messages = new Set(gone.messages);
    this.#watched.forget(gone.conversations);
    this.#log.forget([...conversations, ...messages], (event) => {
      if (conversations.has(conversationOf(event) ?? "")) return true;
      return "message" in event && messages.has(event.message.id);
    });
  }

  /** The upgrade. 403: used ticket or ended access; 429: too many sockets. */
  override async fetch(request: Request): Promise<Response> {
    const connect = readConnect(request);
    const now = this.#clock();
    if (connect.ticket && !this.#tickets.spend(connect.ticket, now)) return new Response(null, { status: 403 });
    if (this.#watched.isEnded(connect.seat, connect.issued_at)) return new Response(null, { status: 403 });
    if (!this.#sockets.hasRoom(connect.seat)) return new Response(null, { status: 429 });
    const { client, opened } = await this.#sockets.open(connect);
    this.#greet(opened, connect.seat.role, connect.since);
    return new Response(null, { status: 101, webSocket: client });
  }

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    if (this.#sockets.receive(socket, message, hubClientFrame)) send(socket, { type: "pong" });
  }

  override async alarm(): Promise<void> {
    await this.#sockets.expire();
  }

  /** Nothing else runs between these frames: what is published meanwhile comes after them. */
  #greet(socket: WebSocket, role: Seat["role"], since: number | null): void {
    const head = this.#log.head();
    const missed = since === null ? [] : this.#log.after(since);
    send(socket, { type: "hello", seq: missed === null ? head : (since ?? head) });
    if (missed === null) send(socket, { type: "resync", seq: head });
    for (const frame of missed ?? []) send(socket, perRole(frame)(role));
  }
}

/**
 * A frame as a role may see it, made once per role. What is left out leaves an empty frame: numbers have no holes,
 * so a client can tell that it missed nothing.
 */
function perRole(frame: LiveFrame): (role: Seat["role"]) => string {
  const texts = new Map<Seat["role"], string>();
  return (role) => {
    const known = texts.get(role);
    if (known !== undefined) return known;
    const text = JSON.stringify({ ...frame, events: frame.events.filter((event) => maySee(role, event.type)) });
    texts.set(role, text);
    return text;
  };
}
