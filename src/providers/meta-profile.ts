/** The line "About" of a number's business profile (facts 1.5). */
import { z } from "zod";
import type { GraphAnswer } from "./graph";
import { resultOf } from "./meta-results";
import type { ProviderResult } from "./provider";

export const READ_ABOUT = { method: "GET", query: { fields: "about" } } as const;

export function aboutBody(about: string): Record<string, unknown> {
  return { messaging_product: "whatsapp", about };
}

const profileSchema = z.object({ data: z.array(z.object({ about: z.string().optional() })) });

export function readAboutOf(answer: GraphAnswer): ProviderResult<string | null> {
  return resultOf(answer, (body) => {
    const profile = profileSchema.safeParse(body).data;
    return profile && (profile.data[0]?.about ?? null);
  });
}
