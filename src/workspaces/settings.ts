import { z } from "zod";
import { knownSettings } from "./schema";

/**
 * Words that end marketing to whoever writes exactly one of them (product 3.10). WhatsApp itself has no such words; the
 * list follows what carriers and the big senders of each language honour.
 */
export const defaultOptOutWords: readonly string[] = [
  "stop",
  "stopall",
  "stop all",
  "unsubscribe",
  "opt out",
  "optout",
  "cancel",
  "quit",
  "end",
  // German, Dutch
  "stopp",
  "abmelden",
  "abbestellen",
  "afmelden",
  "uitschrijven",
  // French
  "arret",
  "arrêt",
  "arreter",
  "arrêter",
  "desabonner",
  "désabonner",
  // Spanish, Portuguese, Italian
  "parar",
  "alto",
  "baja",
  "cancelar",
  "sair",
  "descadastrar",
  "cancella",
  "disiscrivimi",
  // Polish, Turkish, Russian
  "wypisz",
  "dur",
  "iptal",
  "стоп",
  "отписаться",
  // Indonesian, Hindi
  "berhenti",
  "रोकें",
  "बंद करें",
  // Arabic, Hebrew
  "إيقاف",
  "توقف",
  "الغاء",
  "إلغاء",
  "הסר",
  "עצור",
  // Chinese, Japanese, Korean
  "退订",
  "退訂",
  "停止",
  "配信停止",
  "수신거부",
];

/** Words that reverse an opt-out. */
export const defaultOptInWords: readonly string[] = [
  "start",
  "unstop",
  "subscribe",
  "opt in",
  "optin",
  // German, Dutch
  "anmelden",
  "aanmelden",
  // French
  "abonner",
  "reprendre",
  // Spanish, Portuguese, Italian
  "alta",
  "iniciar",
  "suscribir",
  "voltar",
  "iscrivimi",
  // Polish, Turkish, Russian
  "zapisz",
  "başlat",
  "basla",
  "старт",
  "подписаться",
  // Indonesian, Hindi
  "mulai",
  "शुरू करें",
  // Arabic, Hebrew
  "ابدأ",
  "اشتراك",
  "התחל",
  // Chinese, Japanese, Korean
  "订阅",
  "訂閱",
  "開始",
  "수신동의",
];

/** A workspace's settings as the code reads them: every value there, defaults filled in. */
export interface WorkspaceSettings {
  optOutWords: readonly string[];
  optInWords: readonly string[];
  /** Refuse free-form sends outside the 24-hour service window locally, instead of letting the provider decide. */
  enforceServiceWindow: boolean;
  /** Send a message again whose outcome stayed unknown, at the risk of a second copy (pipeline 4). */
  resendUnknown: boolean;
  /** ISO 3166 code with which national numbers are read, null when none is set. */
  defaultCountry: string | null;
}

const stored = z.object({
  opt_out_words: knownSettings.opt_out_words.catch([...defaultOptOutWords]),
  opt_in_words: knownSettings.opt_in_words.catch([...defaultOptInWords]),
  enforce_service_window: knownSettings.enforce_service_window.catch(false),
  resend_unknown: knownSettings.resend_unknown.catch(false),
  default_country: knownSettings.default_country.nullable().catch(null),
});

/**
 * Settings as stored, with defaults. Takes the column's text or its parsed object. Never throws on a stored value: one
 * that was written before its key was known falls back to the default, so that no message waits for it.
 */
export function readSettings(json: string | Record<string, unknown>): WorkspaceSettings {
  const value = stored.parse(typeof json === "string" ? JSON.parse(json) : json);
  return {
    optOutWords: value.opt_out_words,
    optInWords: value.opt_in_words,
    enforceServiceWindow: value.enforce_service_window,
    resendUnknown: value.resend_unknown,
    defaultCountry: value.default_country,
  };
}

/** Whether a message is exactly one of the words: case, surrounding space and closing punctuation do not matter. */
export function isOneOf(text: string, list: readonly string[]): boolean {
  if (text.length > 100) return false;
  const written = plain(text);
  return list.some((word) => plain(word) === written);
}

function plain(text: string): string {
  return text
    .normalize("NFKC")
    .trim()
    .replace(/[\s.!?,;:。]+$/u, "")
    .replace(/\s+/gu, " ")
    .toLowerCase();
}
