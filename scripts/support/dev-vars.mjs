import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./project.mjs";

const FILE = join(ROOT, ".dev.vars");

/** The verify token the Desk document prints (004:136), so that its commands run as they stand. */
const DOCUMENTED_VERIFY_TOKEN = "echodesk_whatsapp_webhook_token_2024";

/** Everything `.dev.vars` holds when we make it. Secrets are random, and the providers are the sandbox on PORT+1. */
function fresh() {
  return {
    SECRET_KEY: randomBytes(48).toString("base64url"),
    META_APP_ID: "1000000000000001",
    META_APP_SECRET: randomBytes(16).toString("hex"),
    WHATSAPP_WEBHOOK_VERIFY_TOKEN: DOCUMENTED_VERIFY_TOKEN,
    META_GRAPH_URL: "http://127.0.0.1:8001",
    DIALOG360_URL: "http://127.0.0.1:8001/360dialog",
    INFOBIP_URL: "http://127.0.0.1:8001/infobip",
    SANDBOX_URL: "http://127.0.0.1:8001",
  };
}

/** Writes `.dev.vars` unless there is one: what a developer changed in it stays. Two starts at once make one file. */
export function ensureDevVars() {
  const lines = Object.entries(fresh()).map(([name, value]) => `${name}=${value}`);
  const text = `# Local development only; made on the first start. .dev.vars.example tells what is what.\n${lines.join("\n")}\n`;
  try {
    writeFileSync(FILE, text, { flag: "wx", mode: 0o600 });
    console.log("Made .dev.vars with random secrets");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
}

/**
 * The settings in `.dev.vars`.
 * @returns {Record<string, string>}
 */
export function readDevVars() {
  /** @type {Record<string, string>} */
  const vars = {};
  for (const line of readFileSync(FILE, "utf8").split("\n")) {
    const match = /^\s*([A-Z][A-Z0-9_]*)\s*=\s*(.*?)\s*$/.exec(line);
    if (match?.[1] && match[2] !== undefined) vars[match[1]] = match[2].replace(/^(["'])(.*)\1$/, "$2");
  }
  return vars;
}
