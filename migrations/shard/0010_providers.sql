-- What numbers of other providers than Meta need: their account's API address, and where the provider reaches us.
ALTER TABLE `phone_numbers` ADD COLUMN `api_base` text;--> statement-breakpoint
ALTER TABLE `phone_numbers` ADD COLUMN `webhook_origin` text;
