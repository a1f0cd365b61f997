/**
 * Stands in for parts of zod that nothing here uses and that no bundler can leave out, because zod hands itself around
 * as one object (`[alias]` in wrangler.toml): its collection of languages, its compiler and its reader of JSON Schema.
 * The names are what zod exports of them.
 */
function leftOut(): never {
  throw new Error("This part of zod is not in the bundle");
}

export const compile = leftOut;
export const withParser = leftOut;
export const fromJSONSchema = leftOut;
export const INVALID = Symbol.for("zod.compile.invalid");
export class ZodCompileAsyncError extends Error {}
export class ZodCompileUnsupportedError extends Error {}
