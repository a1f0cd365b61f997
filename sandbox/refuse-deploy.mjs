// The build step of wrangler.toml. Wrangler says which of its commands runs it.
const command = process.env.WRANGLER_COMMAND ?? "";
if (command !== "dev" && command !== "types") {
  console.error(`The sandbox is an emulator for development and tests: it is never deployed (wrangler ${command}).`);
  process.exit(1);
}
