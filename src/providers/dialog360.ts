import type { Runtime } from "../platform/runtime";
import { call360, dialog360Credentials, ownOutcome, result360 } from "./dialog360-http";
import { describe360Number, dialog360Status, subscribe360 } from "./dialog360-numbers";
import {
  create360Template,
  delete360Template,
  edit360Template,
  get360Template,
  list360Templates,
} from "./dialog360-templates";
import { asForm, META_UPLOADS_LIVE, mediaInfoOf, metaForgotFile, metaMediaLimit, readFile } from "./meta-media";
import { invalidContent, sendOutcome, uploadOutcome } from "./meta-outcomes";
import { aboutBody, READ_ABOUT, readAboutOf } from "./meta-profile";
import { messageBody, readBody } from "./meta-requests";
import type {
  Connection,
  MediaDownload,
  MediaInfo,
  Provider,
  ProviderResult,
  SendOutcome,
  SendRequest,
} from "./provider";

/** 360dialog's hosted Cloud API: Meta's bodies behind its own host, with one key per number (facts 2). */
export function dialog360Provider(rt: Runtime): Provider {
  return {
    name: "360dialog",
    repeatable: false,
    mediaBy: "id",
    sendLimit: () => null,
    statusOf: dialog360Status,
    send: (connection, request) => send(rt, connection, request),
    markRead: async (connection, waMessageId, typing) =>
      result360(
        await call360(rt, connection, { method: "POST", path: ["messages"], body: readBody(waMessageId, typing) }),
        () => null,
      ),
    describeNumber: (connection) => describe360Number(rt, connection),
    subscribe: (connection, webhook) => subscribe360(rt, connection, webhook),
    readAbout: async (connection) => {
      const answer = await call360(rt, connection, { ...READ_ABOUT, path: ["whatsapp_business_profile"] });
      return answer.kind === "refused" ? result360(answer, () => null) : readAboutOf(answer);
    },
    setAbout: async (connection, about) =>
      result360(
        await call360(rt, connection, { method: "POST", path: ["whatsapp_business_profile"], body: aboutBody(about) }),
        () => null,
      ),
    // A key has no end and nothing to be exchanged for.
    exchangeToken: async ({ accessToken }) => ({ ok: true, value: { accessToken, expiresAt: null } }),
    mediaLimit: metaMediaLimit,
    uploadsLive: META_UPLOADS_LIVE,
    uploadMedia: async (connection, file, timeout) => {
      const answer = await asForm(file, (stream) =>
        call360(rt, connection, { method: "POST", path: ["media"], stream, timeout }),
      );
      return ownOutcome(answer) ?? uploadOutcome(answer);
    },
    forgotFile: metaForgotFile,
    mediaInfo: (connection, providerMediaId) => mediaInfo(rt, connection, providerMediaId),
    downloadMedia: (connection, url, timeout) => download(rt, connection, url, timeout),
    createTemplate: (connection, draft) => create360Template(rt, connection, draft),
    listTemplates: (connection, query) => list360Templates(rt, connection, query),
    getTemplate: (connection, id) => get360Template(rt, connection, id),
    editTemplate: edit360Template,
    deleteTemplate: (connection, template) => delete360Template(rt, connection, template),
  };
}

async function send(rt: Runtime, connection: Connection, request: SendRequest): Promise<SendOutcome> {
  const message = messageBody(request);
  if (!message.ok) return invalidContent(message.reason);
  const answer = await call360(rt, connection, { method: "POST", path: ["messages"], body: message.body });
  return ownOutcome(answer) ?? sendOutcome(answer, request);
}

async function mediaInfo(rt: Runtime, connection: Connection, id: string): Promise<ProviderResult<MediaInfo>> {
  const answer = await call360(rt, connection, { method: "GET", path: [id] });
  return answer.kind === "refused" ? result360<MediaInfo>(answer, () => undefined) : mediaInfoOf(answer);
}

/** The host in Meta's links; behind 360dialog its own takes that place, with path and query as they are (facts 2). */
const META_DOWNLOADS = "lookaside.fbsbx.com";

async function download(rt: Runtime, connection: Connection, link: string, timeout: number): Promise<MediaDownload> {
  const url = URL.parse(link);
  const base = new URL(rt.config.DIALOG360_URL);
  const own =
    url !== null && (url.origin === base.origin || (url.protocol === "https:" && url.host === META_DOWNLOADS));
  if (!own) return { kind: "failed", reason: "The file's address is not the provider's" };
  const moved = new URL(`${base.origin}${url.pathname}${url.search}`);
  return readFile(rt, moved, dialog360Credentials(connection), timeout);
}
