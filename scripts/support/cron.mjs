/**
 * Whether one field of a cron expression holds: `*`, a step of it, or a list of numbers and ranges.
 * @param {string} field @param {number} value
 */
function holds(field, value) {
  return field.split(",").some((part) => {
    const match = /^(?:\*|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part);
    if (!match) throw new Error(`Not understood in a cron expression: ${part}`);
    const [, from, to, step] = match.map((text) => (text === undefined ? undefined : Number(text)));
    if (from === undefined) return value % (step ?? 1) === 0;
    const last = to ?? (step === undefined ? from : Number.POSITIVE_INFINITY);
    return value >= from && value <= last && (value - from) % (step ?? 1) === 0;
  });
}

/**
 * Whether a cron expression is due in the minute of `at`, in UTC as Cloudflare reads it (weekdays are 1–7, Sunday 1).
 * @param {string} expression five fields
 * @param {Date} at
 */
function isDue(expression, at) {
  const fields = expression.trim().split(/\s+/);
  const values = [at.getUTCMinutes(), at.getUTCHours(), at.getUTCDate(), at.getUTCMonth() + 1, at.getUTCDay() + 1];
  if (fields.length !== values.length) throw new Error(`A cron expression has five fields: ${expression}`);
  return fields.every((field, index) => holds(field, Number(values[index])));
}

/**
 * Fires each cron at its minute, as Cloudflare does and `wrangler dev` does not. A failed run is reported, and the next
 * one comes all the same.
 * @param {string} origin of the app
 * @param {string[]} expressions
 * @param {(problem: string) => void} report
 */
export function fireCrons(origin, expressions, report) {
  /** @param {number} minute ms */
  const fire = (minute) => {
    for (const expression of expressions.filter((each) => isDue(each, new Date(minute)))) {
      const query = new URLSearchParams({ cron: expression, time: String(minute) });
      fetch(`${origin}/cdn-cgi/local/scheduled?${query}`)
        .then((response) => {
          if (!response.ok) report(`cron "${expression}" answered ${response.status}`);
        })
        .catch((error) => report(`cron "${expression}" failed: ${error}`));
    }
    next();
  };
  const next = () => {
    const now = Date.now();
    const minute = Math.floor(now / 60_000 + 1) * 60_000;
    setTimeout(fire, minute - now, minute);
  };
  next();
}
