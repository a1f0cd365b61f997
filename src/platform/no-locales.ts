/** Stands in for zod's collection of languages in the bundle (`[alias]` in wrangler.toml). */
export {};
