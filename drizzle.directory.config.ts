import { defineConfig } from "drizzle-kit";

/** DIRECTORY: what must be found before a workspace is known. */
export default defineConfig({
  dialect: "sqlite",
  out: "./migrations/directory",
  schema: ["./src/auth/tables.ts", "./src/workspaces/tables.ts", "./src/phone-numbers/directory-tables.ts"],
});
