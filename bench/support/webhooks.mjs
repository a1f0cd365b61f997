import { createHmac } from "node:crypto";
import { rawRequest } from "./load.mjs";

/** @typedef {{ providerNumberId: string, businessId: string }} Receiver */

/** @param {Receiver} number @param {object} value */
function webhook(number, value) {
  const metadata = { display_phone_number: number.providerNumberId, phone_number_id: number.providerNumberId };
  const change = { field: "messages", value: { messaging_product: "whatsapp", metadata, ...value } };
  return { object: "whatsapp_business_account", entry: [{ id: number.businessId, changes: [change] }] };
}

/**
 * A customer's text as Meta posts it.
 * @param {Receiver} number @param {{ from: string, wamid: string }} text
 */
export function inboundText(number, { from, wamid }) {
  return webhook(number, {
    contacts: [{ profile: { name: `Customer ${from.slice(-4)}` }, wa_id: from }],
    messages: [
      {
        from,
        id: wamid,
        timestamp: now(),
        type: "text",
        text: { body: "Hello! Could you tell me where my parcel is?" },
      },
    ],
  });
}

/**
 * A status as Meta posts it: `sent`, and one of `delivered` and `read`, with the price.
 * @param {Receiver} number @param {{ to: string, wamid: string, callback: string, status: "sent" | "delivered" | "read" }} update
 */
export function statusUpdate(number, { to, wamid, callback, status }) {
  const pricing = { billable: true, pricing_model: "PMP", type: "regular", category: "service" };
  return webhook(number, {
    statuses: [
      {
        id: wamid,
        status,
        timestamp: now(),
        recipient_id: to,
        biz_opaque_callback_data: callback,
        ...(status === "read" ? {} : { pricing }),
      },
    ],
  });
}

function now() {
  return String(Math.floor(Date.now() / 1000));
}

/**
 * The signed POST, ready to be written to a socket.
 * @param {object} body @param {string} secret
 */
export function signedPost(body, secret) {
  const text = JSON.stringify(body);
  const signature = createHmac("sha256", secret).update(text).digest("hex");
  const headers = { "Content-Type": "application/json", "X-Hub-Signature-256": `sha256=${signature}` };
  return rawRequest("POST", "/webhook", headers, text);
}
