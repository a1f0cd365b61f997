/**
 * A stream piece by piece. `broken` makes the error for a sender that went away, so that it can be told from a bucket
 * or database that fails while the pieces are handled. Leaving the loop cancels the stream.
 */
export async function* chunksOf(body: ReadableStream<Uint8Array>, broken: () => Error): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        throw broken();
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
