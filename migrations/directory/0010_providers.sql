-- Which version of a connection's webhook secret counts, and since when (the one before counts for a day more).
ALTER TABLE `provider_numbers` ADD COLUMN `webhook_version` integer NOT NULL DEFAULT 1;--> statement-breakpoint
ALTER TABLE `provider_numbers` ADD COLUMN `webhook_rotated_at` integer;
