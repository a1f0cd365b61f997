import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { Meter, meteredEnv, type StatementCost } from "../bench/meter";
import { learnIdentities } from "../src/contacts/service";
import { pageConversations, selectConversation, updateRead } from "../src/conversations/store";
import { applyWaitingStatuses, foldStatuses, type StatusReport, statusStatements } from "../src/messages/statuses";
import { insertAccepted, pageMessages, selectMessage, selectMessageEvents, selectRecipient } from "../src/messages/store";
import {
  claimQueued,
  releaseLeases,
  type SendResult,
  selectScheduledDue,
  settleAmbiguous,
  sweepOpen,
  updateResults,
} from "../src/messages/store-sending";
import { numbersById, type PhoneNumber } from "../src/phone-numbers/service-pipeline";
