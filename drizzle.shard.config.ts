import { defineConfig } from "drizzle-kit";

/** SHARD_n: everything else; all shards have the same schema. */
export default defineConfig({
  dialect: "sqlite",
  out: "./migrations/shard",
  schema: [
    "./src/platform/tables.ts",
    "./src/workspaces/shard-tables.ts",
    "./src/phone-numbers/tables.ts",
    "./src/contacts/tables.ts",
    "./src/conversations/tables.ts",
    "./src/messages/tables.ts",
    "./src/media/tables.ts",
    "./src/inbound/tables.ts",
    "./src/imports/tables.ts",
    "./src/templates/tables.ts",
    "./src/webhook-endpoints/tables.ts",
    "./src/auto-replies/tables.ts",
    "./src/groups/tables.ts",
    "./src/wordpress/tables.ts",
    "./src/statuses/tables.ts",
  ],
});
