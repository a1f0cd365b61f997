import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callInfobip, resultOf } from "./infobip-http";
import { metaNumberStatus } from "./meta-numbers";
import type { Connection, NumberInfo, ProviderResult } from "./provider";

/** Infobip tells WhatsApp's own words. */
export const infobipStatus = metaNumberStatus;

const qualitySchema = z.object({
  results: z.array(
    z.object({
      sender: z.coerce.string(),
      qualityRating: z.string().nullish(),
      status: z.string().nullish(),
      currentLimit: z.string().nullish(),
    }),
  ),
});

const RATINGS: Readonly<Record<string, NumberInfo["qualityRating"]>> = { HIGH: "GREEN", MEDIUM: "YELLOW", LOW: "RED" };

/** `LIMIT_250`, `LIMIT_1K`, `LIMIT_100K`; everything else is unlimited or not set. */
function limitOf(word: string | null | undefined): number | null {
  const match = /^LIMIT_(\d{1,7})(K?)$/.exec(word ?? "");
  return match ? Number(match[1]) * (match[2] === "K" ? 1000 : 1) : null;
}

const infoSchema = z.object({ displayName: z.string().nullish(), about: z.string().nullish() });

/** What Infobip tells of a sender: only one of the key's own account is in the answer, so it proves the key too. */
export async function describeInfobipNumber(rt: Runtime, connection: Connection): Promise<ProviderResult<NumberInfo>> {
  const sender = connection.providerNumberId;
  const [answer, info] = await Promise.all([
    callInfobip(rt, connection, {
      method: "GET",
      path: ["whatsapp", "1", "senders", "quality"],
      query: { senders: sender },
    }),
    callInfobip(rt, connection, { method: "GET", path: infoPath(connection) }),
  ]);
  const listed = resultOf(answer, (body) => qualitySchema.safeParse(body).data?.results);
  if (!listed.ok) return listed;
  const found = listed.value.find((one) => one.sender.replaceAll(/\D/g, "") === sender);
  if (!found) {
    const title = "The key's account has no such WhatsApp sender";
    return { ok: false, refused: true, error: { code: "sender_not_found", title, details: null, retryable: false } };
  }
  const profile = resultOf(info, (body) => infoSchema.safeParse(body).data);
  return {
    ok: true,
    value: {
      providerNumberId: sender,
      phoneNumber: `+${sender}`,
      verifiedName: profile.ok ? (profile.value.displayName ?? null) : null,
      qualityRating: RATINGS[found.qualityRating ?? ""] ?? "UNKNOWN",
      messageLimit: limitOf(found.currentLimit),
      tier: "STANDARD",
      status: infobipStatus(found.status ?? null),
      providerStatus: found.status ?? null,
      // Templates and everything else are kept per sender.
      businessId: connection.businessId ?? sender,
      tokenExpiresAt: null,
    },
  };
}

function infoPath(connection: Connection): string[] {
  return ["whatsapp", "1", "senders", connection.providerNumberId, "business-info"];
}

export async function readInfobipAbout(rt: Runtime, connection: Connection): Promise<ProviderResult<string | null>> {
  const answer = await callInfobip(rt, connection, { method: "GET", path: infoPath(connection) });
  return resultOf(answer, (body) => {
    const info = infoSchema.safeParse(body).data;
    return info && (info.about ?? null);
  });
}

export async function setInfobipAbout(
  rt: Runtime,
  connection: Connection,
  about: string,
): Promise<ProviderResult<null>> {
  const answer = await callInfobip(rt, connection, { method: "PATCH", path: infoPath(connection), body: { about } });
  return resultOf(answer, () => null);
}
