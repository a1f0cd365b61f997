/** The verbs of WordPress sources. */
import type { z } from "@hono/zod-openapi";
import type { WorkspaceScope } from "../auth/guard";
import { AppError, invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { checkAddress, UnsafeAddress } from "../platform/safe-fetch";
import { advance, firstCursor, requestOf, UnreadableAnswer } from "./reading";
import { placesOf, readPerson, valueAt } from "./records";
import type { changeSourceBody, createSourceBody, SourceConfig, SourceKind, testAnswer } from "./schema";
import { sealCredentials, siteOf } from "./service-credentials";
import { beginSync } from "./service-sync";
import { readSite } from "./site";
import {
  insertSource,
  MAX_SOURCES,
  type Source,
  type SourceChange,
  selectCountry,
  selectSource,
  updateSource,
} from "./store";

/** Records that a test shows. */
const SAMPLE = 5;

/** Refuses an address that is not public, is this deployment, or could not be followed by a path. */
function checkUrl(rt: Runtime, url: string, ownHost: string): void {
  try {
    const { search, hash } = checkAddress(url, { privateHosts: rt.config.PRIVATE_FETCH_HOSTS, ownHosts: [ownHost] });
    if (search !== "" || hash !== "") throw new UnsafeAddress("Must have no query and no fragment");
  } catch (error) {
    if (error instanceof UnsafeAddress) throw invalidField(["body", "url"], error.message);
    throw error;
  }
}

/** Refuses a source that could not find anybody's number. */
function checkConfig(kind: SourceKind, config: SourceConfig): void {
  if (placesOf(kind, config).phone === undefined) {
    throw invalidField(
      ["body", "config", "phone"],
      `A source of kind ${kind} has to say where the phone number stands`,
    );
  }
  if (kind === "custom" && config.path === undefined) {
    throw invalidField(["body", "config", "path"], "A custom source has to name its path");
  }
  const foreign = (
    [
      ["path", "custom"],
      ["items", "custom"],
      ["since", "custom"],
      ["form_id", "gravity_forms"],
    ] as const
  ).find(([name, only]) => config[name] !== undefined && kind !== only);
  if (foreign) throw invalidField(["body", "config", foreign[0]], `Only a source of kind ${foreign[1]} has this`);
}

/** Makes a source; the next quarter of an hour reads it. `ownHost` is the name this deployment was called by. */
export async function createSource(
  { rt, db, workspaceId }: WorkspaceScope,
  body: z.output<typeof createSourceBody>,
  ownHost: string,
): Promise<Source> {
  checkUrl(rt, body.url, ownHost);
  checkConfig(body.kind, body.config);
  const id = rt.newId();
  const source = await insertSource(
    db,
    {
      workspaceId,
      id,
      name: body.name,
      kind: body.kind,
      url: body.url,
      ownHost,
      credentialsSealed: body.credentials && (await sealCredentials(rt, { workspaceId, id }, body.credentials)),
      config: body.config,
      enabled: body.enabled,
    },
    rt.clock(),
  );
  if (!source) throw new AppError("conflict", `A workspace has at most ${MAX_SOURCES} WordPress sources`);
  return source;
}

/**
 * Changes a source. Stored credentials go to no other host: with a new one they are named again. Where what is read
 * changes, a reading under way ends and the next reads everything.
 */
export async function changeSource(
  { rt, db }: WorkspaceScope,
  source: Source,
  body: z.output<typeof changeSourceBody>,
  ownHost: string,
): Promise<Source> {
  const change: SourceChange = {};
  if (body.url !== undefined && body.url !== source.url) {
    checkUrl(rt, body.url, ownHost);
    const moved = new URL(body.url).origin !== new URL(source.url).origin;
    if (moved && source.credentialsSealed !== null && body.credentials === undefined) {
      throw invalidField(["body", "credentials"], "Another host needs its credentials named with it");
    }
    change.address = { url: body.url, ownHost };
  }
  if (body.config !== undefined) {
    checkConfig(source.kind, body.config);
    change.config = body.config;
  }
  if (body.name !== undefined) change.name = body.name;
  if (body.enabled !== undefined) change.enabled = body.enabled;
  if (body.credentials !== undefined) {
    change.credentials = body.credentials && (await sealCredentials(rt, source, body.credentials));
  }
  const changed = await updateSource(db, source, change, rt.clock());
  if (!changed) throw new AppError("not_found", "Resource not found");
  return changed;
}

/** Starts a reading now, also of a disabled source. One that is under way is answered as it is. */
export async function syncSource(
  { rt, db, membership }: WorkspaceScope,
  source: Source,
  full: boolean,
): Promise<Source> {
  const begun = await beginSync(rt, db, source, { shard: membership.shard, full, forced: true });
  const now = begun ?? (await selectSource(db, [source.workspaceId], source.id));
  if (!now) throw new AppError("not_found", "Resource not found");
  return now;
}

/** Asks the site for a few records and shows what would be read from them; stores nothing. */
export async function testSource({ rt, db }: WorkspaceScope, source: Source): Promise<z.input<typeof testAnswer>> {
  const { kind, config } = source;
  const reading = { kind, config, cursor: firstCursor(kind, config, null, rt.clock()) };
  const answer = await readSite(rt, await siteOf(rt, source), requestOf(reading, SAMPLE));
  const failed = (error: string) => ({ ok: false, error, total: null, sample: [] });
  switch (answer.kind) {
    case "page":
      break;
    case "beyond":
      return failed("The site says that the first page does not exist");
    case "refused":
    case "later":
      return failed(answer.message);
  }
  const country = await selectCountry(db, source.workspaceId);
  try {
    const people = advance(reading, 0, answer, valueAt)
      .records.slice(0, SAMPLE)
      .map((record) => readPerson(kind, config, record, country));
    const sample = people.map((person) => ({
      phone_number: person && `+${person.digits}`,
      name: person?.name ?? null,
      opted_in: person?.optedIn ?? false,
    }));
    const readable = people.length === 0 || people.some((person) => person !== null);
    return {
      ok: readable,
      error: readable ? null : "No record has a readable phone number",
      total: answer.total,
      sample,
    };
  } catch (error) {
    if (error instanceof UnreadableAnswer) return failed(error.message);
    throw error;
  }
}
