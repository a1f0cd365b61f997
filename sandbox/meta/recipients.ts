import { GraphError } from "./graph-error";

/**
 * Recipients that are refused, so that every outcome can be had without ordering a fault: 1555 and a code. Here the
 * refusal comes with the call; the codes below are accepted first and fail later, in a status webhook.
 */
const REFUSED_AT_ONCE = new Set([131009, 131030, 131056]);
const FAILED_LATER = new Set([130472, 130497, 131000, 131026, 131047, 131049, 131050, 131053]);

/** Numbers of ours that cannot send: 1555 and a code, as phone number id. */
const REFUSED_SENDERS = new Set([368, 131005, 131031, 131042, 131045, 133010]);
const UNKNOWN_NUMBER = "1555000033";

function codeOf(id: string): number | null {
  const match = /^1555(\d{6})$/.exec(id);
  return match ? Number(match[1]) : null;
}

/** The code of a recipient that the call itself is refused for, or null. */
export function refusedAtOnce(waId: string): number | null {
  const code = codeOf(waId);
  return code !== null && REFUSED_AT_ONCE.has(code) ? code : null;
}

/** The code with which a message to this recipient fails after it was accepted, or null. */
export function failsLater(waId: string): number | null {
  const code = codeOf(waId);
  return code !== null && FAILED_LATER.has(code) ? code : null;
}

/** The code with which everything this number sends is refused, or null. */
export function refusedSender(phoneId: string): number | null {
  const code = codeOf(phoneId);
  return code !== null && REFUSED_SENDERS.has(code) ? code : null;
}

/** Any numeric id is a phone number, except this one. */
export function isPhoneNumberId(id: string): boolean {
  return /^[1-9]\d{0,31}$/.test(id) && id !== UNKNOWN_NUMBER;
}

/** The digits of a recipient as Meta reads it; throws 131009 for what is no phone number at all. */
export function recipientDigits(to: string): string {
  const digits = to.replaceAll(/[\s()+.-]/g, "");
  if (!/^[1-9]\d{1,14}$/.test(digits)) {
    throw new GraphError(131009, { details: "Parameter 'to' is not a valid phone number" });
  }
  return digits;
}

/**
 * The WhatsApp id of a number. In Brazil, Mexico and Argentina it differs from the number that was called: Brazil drops
 * the ninth digit (area codes from 31), Mexico and Argentina put a mobile digit behind the country code.
 */
export function waIdOf(digits: string): string {
  const brazil = /^55([3-9]\d)9(\d{8})$/.exec(digits);
  if (brazil && Number(brazil[1]) >= 31) return `55${brazil[1]}${brazil[2]}`;
  const mexico = /^52([2-9]\d{9})$/.exec(digits);
  if (mexico) return `521${mexico[1]}`;
  const argentina = /^54([1-8]\d{9})$/.exec(digits);
  if (argentina) return `549${argentina[1]}`;
  return digits;
}
