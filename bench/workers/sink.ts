/** Takes a queue's messages and does nothing: for measures that end where the queue begins. */
export default {
  async queue(batch) {
    batch.ackAll();
  },
} satisfies ExportedHandler;
