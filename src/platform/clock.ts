/** Milliseconds since the epoch. Services take one, so that tests can stop time. */
export type Clock = () => number;

export const systemClock: Clock = () => Date.now();

/** `2024-01-01T00:00:00Z`: documented time fields print whole seconds (contract 2). */
export function isoSeconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export function isoSecondsOrNull(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : isoSeconds(ms);
}

/** `2024-01-01T00:00:00.000Z`: realtime events carry milliseconds (contract 2). */
export function isoMillis(ms: number): string {
  return new Date(ms).toISOString();
}
