import { expect, it } from "vitest";
import { sandbox } from "./support/sandbox";

it("works", async () => {
  const r = await fetch("https://graph.facebook.com/v25.0/1234567890/messages", {
    method: "POST",
    headers: { authorization: "Bearer EAAx", "content-type": "application/json" },
    body: JSON.stringify({
      messaging_product: "whatsapp",
      to: "+15551234567",
      type: "text",
      text: { body: "héllo/☃" },
      biz_opaque_callback_data: "abc.1",
    }),
  });
  console.log(r.status, await r.text());
  console.log(JSON.stringify(await sandbox.accepted(), null, 1));
  console.log(await sandbox.customerSends("15551234567", { to: "1234567890", type: "image", image: { caption: "x" } }));
  console.log(JSON.stringify(await sandbox.webhooks(), null, 1));
  console.log(await sandbox.flush({ batch: 10 }));
  console.log(await sandbox.stats());
  expect(1).toBe(1);
});
