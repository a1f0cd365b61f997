/**
 * The number in a messaging limit: `TIER_250`, `TIER_1K`, `TIER_100K`, or a plain number as
 * `business_capability_update` sends it. Null is unlimited or not set. Undefined: nothing was said.
 */
export function messageLimitOf(tier: unknown): number | null | undefined {
  if (typeof tier === "number") return Number.isInteger(tier) && tier > 0 ? tier : null;
  if (typeof tier !== "string") return undefined;
  const match = /^(?:TIER_)?(\d{1,9})(K?)$/.exec(tier);
  if (!match) return /^TIER_/.test(tier) ? null : undefined;
  return Number(match[1]) * (match[2] === "K" ? 1000 : 1);
}
