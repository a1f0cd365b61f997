import type { Runtime } from "../platform/runtime";
import { callGraph, type GraphAnswer, type GraphCall } from "./graph";
import {
  downloadMetaMedia,
  META_UPLOADS_LIVE,
  metaForgotFile,
  metaMediaInfo,
  metaMediaLimit,
  postMetaMedia,
} from "./meta-media";
import { describeMetaNumber, exchangeMetaToken, metaNumberStatus, subscribeMetaApp } from "./meta-numbers";
import { invalidContent, sendOutcome, uploadOutcome } from "./meta-outcomes";
import { aboutBody, READ_ABOUT, readAboutOf } from "./meta-profile";
import { messageBody, readBody } from "./meta-requests";
import { resultOf } from "./meta-results";
import {
  createMetaTemplate,
  deleteMetaTemplate,
  editMetaTemplate,
  getMetaTemplate,
  listMetaTemplates,
} from "./meta-templates";
import type { Connection, Provider, SendOutcome, SendRequest } from "./provider";

/** Meta's Cloud API (graph.facebook.com). */
export function metaProvider(rt: Runtime): Provider {
  return {
    name: "meta",
    repeatable: false,
    mediaBy: "id",
    sendLimit: () => null,
    statusOf: metaNumberStatus,
    send: (connection, request) => send(rt, connection, request),
    markRead: async (connection, waMessageId, typing) =>
      resultOf(await post(rt, connection, readBody(waMessageId, typing)), () => null),
    describeNumber: (connection) => describeMetaNumber(rt, connection),
    subscribe: (connection) => subscribeMetaApp(rt, connection),
    readAbout: async (connection) => readAboutOf(await callGraph(rt, profileCall(connection, READ_ABOUT))),
    setAbout: async (connection, about) =>
      resultOf(await callGraph(rt, profileCall(connection, { method: "POST", body: aboutBody(about) })), () => null),
    exchangeToken: (connection) => exchangeMetaToken(rt, connection),
    mediaLimit: metaMediaLimit,
    uploadsLive: META_UPLOADS_LIVE,
    uploadMedia: async (connection, file, timeout) => uploadOutcome(await postMetaMedia(rt, connection, file, timeout)),
    forgotFile: metaForgotFile,
    mediaInfo: (connection, providerMediaId) => metaMediaInfo(rt, connection, providerMediaId),
    downloadMedia: (connection, url, timeout) => downloadMetaMedia(rt, connection, url, timeout),
    createTemplate: (connection, draft) => createMetaTemplate(rt, connection, draft),
    listTemplates: (connection, query) => listMetaTemplates(rt, connection, query),
    getTemplate: (connection, id) => getMetaTemplate(rt, connection, id),
    editTemplate: (connection, id, change) => editMetaTemplate(rt, connection, id, change),
    deleteTemplate: (connection, template) => deleteMetaTemplate(rt, connection, template),
  };
}

function profileCall(connection: Connection, call: Pick<GraphCall, "method" | "query" | "body">): GraphCall {
  const path = [connection.providerNumberId, "whatsapp_business_profile"];
  return { ...call, path, accessToken: connection.accessToken };
}

function post(rt: Runtime, connection: Connection, body: unknown): Promise<GraphAnswer> {
  return callGraph(rt, {
    method: "POST",
    path: [connection.providerNumberId, "messages"],
    body,
    accessToken: connection.accessToken,
  });
}

async function send(rt: Runtime, connection: Connection, request: SendRequest): Promise<SendOutcome> {
  const message = messageBody(request);
  if (!message.ok) return invalidContent(message.reason);
  return sendOutcome(await post(rt, connection, message.body), request);
}
