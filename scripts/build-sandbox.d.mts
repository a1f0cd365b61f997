/** Options under which the sandbox Worker runs on Miniflare. */
export const SANDBOX_WORKER: {
  compatibilityDate: string;
  durableObjects: { STATE: { className: string; useSQLite: true } };
  r2Buckets: { MEDIA: string };
};

/** The sandbox as one JavaScript module, in memory. */
export function sandboxModule(): Promise<string>;

/** Writes the bundled, minified sandbox Worker to `outfile` and answers that path. */
export function buildSandbox(outfile: string): Promise<string>;
