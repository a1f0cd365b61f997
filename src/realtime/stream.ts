import { hubServerFrame } from "./frames";

/** A comment this often (ms) keeps proxies from closing a silent stream. */
const HEARTBEAT = 20_000;
/** A reader this far behind (bytes) is let go; it resumes with Last-Event-ID. */
const MAX_BEHIND = 4 * 1024 * 1024;
/** How long (ms) EventSource waits before it comes back. */
const RETRY = 2000;

const encoder = new TextEncoder();

/**
 * Server-sent events written from a socket of the hub. The socket hibernates at the hub's end, so a silent stream
 * costs nothing there (pipeline 22). Ends when the hub closes the socket; the reader leaving closes it.
 */
export function eventStream(socket: WebSocket): Response {
  let heartbeat: ReturnType<typeof setInterval> | undefined;
  let over = false;
  const stop = () => {
    over = true;
    clearInterval(heartbeat);
    socket.close(1000, "The stream has ended");
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const end = () => {
          if (over) return;
          stop();
          controller.close();
        };
        const write = (text: string) => {
          if (over) return;
          controller.enqueue(encoder.encode(text));
          if ((controller.desiredSize ?? 0) <= 0) end();
        };
        socket.addEventListener("message", ({ data }) => write(typeof data === "string" ? asEvent(data) : ""));
        socket.addEventListener("close", end);
        socket.accept();
        write(`retry: ${RETRY}\n\n`);
        heartbeat = setInterval(() => write(": heartbeat\n\n"), HEARTBEAT);
      },
      cancel: stop,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: MAX_BEHIND }),
  );
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no",
    },
  });
}

/** One event per frame, named by its type. The number of the frame is the id a reader sends back. */
function asEvent(text: string): string {
  const frame = hubServerFrame.parse(JSON.parse(text));
  const id = "seq" in frame ? `id: ${frame.seq}\n` : "";
  return `${id}event: ${frame.type}\ndata: ${text}\n\n`;
}
