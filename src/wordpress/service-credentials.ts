import { z } from "zod";
import { open, type SealContext, seal } from "../platform/crypto";
import type { Runtime } from "../platform/runtime";
import type { Credentials, Site } from "./site";
import type { Source } from "./store";

const credentialsSchema = z.object({ user: z.string(), secret: z.string() });

function contextOf(workspaceId: string, id: string): SealContext {
  return { table: "wordpress_sources", column: "credentials_sealed", workspaceId, rowId: id };
}

/** Seals a source's credentials: the text opens for no other source. */
export function sealCredentials(
  rt: Runtime,
  source: Pick<Source, "workspaceId" | "id">,
  { user, secret }: Credentials,
): Promise<string> {
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return seal(keys, contextOf(source.workspaceId, source.id), JSON.stringify({ user, secret }));
}

/** What a call of the source's site needs. Throws for credentials sealed with a master secret that is gone. */
export async function siteOf(rt: Runtime, source: Source): Promise<Site> {
  const { url, ownHost, credentialsSealed } = source;
  if (credentialsSealed === null) return { url, ownHost, credentials: null };
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  const plain = await open(keys, contextOf(source.workspaceId, source.id), credentialsSealed);
  return { url, ownHost, credentials: credentialsSchema.parse(JSON.parse(plain)) };
}
