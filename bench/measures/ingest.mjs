import { closedLoop, percentile } from "../support/load.mjs";
import { APP_SECRET, startBare, startReceiver } from "../support/stack.mjs";
import { inboundText, signedPost } from "../support/webhooks.mjs";

/** Connections: enough to keep the Worker busy, few enough not to queue. */
const CONNECTIONS = 16;
const ROUNDS = 25;
const SECONDS = 0.5;

/**
 * Webhooks received per second, by the app's bundle and by the bare Worker, in turns within one run: what disturbs the
 * machine disturbs both. Both put into a queue whose consumer does nothing.
 * @param {import("../support/stack.mjs").Bundles} bundles
 */
export async function measureIngest(bundles) {
  const number = { providerNumberId: "15550100200", businessId: "215550100200" };
  const posts = Array.from({ length: 2_000 }, (_, n) =>
    signedPost(
      inboundText(number, { from: `1202555${String(n).padStart(4, "0")}`, wamid: `wamid.ingest-${n}` }),
      APP_SECRET,
    ),
  );
  let place = 0;
  const next = () => posts[place++ % posts.length] ?? null;
  const [app, bare] = await Promise.all([startReceiver(bundles), startBare(bundles)]);
  /** @param {{ port: number }} running @param {number} seconds */
  const round = async ({ port }, seconds) => {
    const result = await closedLoop({ port, connections: CONNECTIONS, next, seconds });
    const refused = result.sent - (result.statuses[200] ?? 0);
    if (refused > 0) throw new Error(`${refused} webhooks were not taken: ${JSON.stringify(result.statuses)}`);
    return result.perSecond;
  };
  try {
    for (const running of [bare, app]) await round(running, 2);
    /** @type {{ bare: number, app: number }[]} */
    const rounds = [];
    for (let n = 0; n < ROUNDS; n += 1) {
      // Who goes first changes, so that a machine that gets busier favours nobody.
      const first = n % 2 === 0 ? await round(bare, SECONDS) : await round(app, SECONDS);
      const second = n % 2 === 0 ? await round(app, SECONDS) : await round(bare, SECONDS);
      rounds.push(n % 2 === 0 ? { bare: first, app: second } : { bare: second, app: first });
    }
    const ratios = rounds.map((one) => one.app / one.bare);
    return {
      app_per_second: percentile(
        rounds.map((one) => one.app),
        0.5,
      ),
      bare_per_second: percentile(
        rounds.map((one) => one.bare),
        0.5,
      ),
      ratio: percentile(ratios, 0.5),
      ratios: ratios.map((ratio) => Number(ratio.toFixed(2))),
    };
  } finally {
    await Promise.all([app.stop(), bare.stop()]);
  }
}
