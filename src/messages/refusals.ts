/** Why a message was never sent, or nobody knows whether it was: reasons of ours, shown as the message's error. */
import type { ProviderError } from "../providers/provider";
import { OUTCOME_UNKNOWN } from "./rank";

export const EXPIRED: ProviderError = {
  code: "expired",
  title: "The message expired before it could be sent",
  details: null,
  retryable: true,
};

export const NUMBER_GONE: ProviderError = {
  code: "number_deleted",
  title: "The phone number was deleted before the message could be sent",
  details: null,
  retryable: false,
};

export const OPTED_OUT: ProviderError = {
  code: "opted_out",
  title: "The contact opted out of marketing",
  details: null,
  retryable: false,
};

export const UNKNOWN_OUTCOME: ProviderError = {
  code: OUTCOME_UNKNOWN,
  title: "The provider never said what became of the message",
  details: "The call was in flight when the connection broke, and no status came. It was not sent again.",
  retryable: true,
};

/** The workspace chose `resend_unknown`, and nobody knows of the second send either. */
export const UNKNOWN_TWICE: ProviderError = {
  ...UNKNOWN_OUTCOME,
  details: "The call was in flight when the connection broke, and no status came. It was sent a second time.",
};

/** What a number's own token could not be opened with: its owner must enter it again. */
export const TOKEN_UNREADABLE: ProviderError = {
  code: "token_unreadable",
  title: "The number's access token cannot be read any more: enter it again",
  details: null,
  retryable: true,
};
