-- Tables with TEXT keys are WITHOUT ROWID: half the billed writes. drizzle-kit cannot say that; migrations are written by hand from here on.
CREATE TABLE `idempotency` (
	`workspace_id` text NOT NULL,
	`key` text NOT NULL,
	`hash` text NOT NULL,
	`ref` text NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `key`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `list_totals` (
	`workspace_id` text NOT NULL,
	`list` text NOT NULL,
	`n` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `list`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `workspace_states` (
	`workspace_id` text PRIMARY KEY NOT NULL,
	`status` text NOT NULL,
	`settings` text NOT NULL,
	`updated_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `phone_numbers` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`provider` text NOT NULL,
	`provider_number_id` text NOT NULL,
	`business_id` text,
	`portfolio_id` text,
	`phone_number` text NOT NULL,
	`display_name` text,
	`verified_name` text,
	`quality_rating` text NOT NULL,
	`message_limit` integer,
	`tier` text NOT NULL,
	`status` text NOT NULL,
	`provider_status` text,
	`disabled_by_us` integer NOT NULL,
	`is_default` integer NOT NULL,
	`access_token_sealed` text,
	`token_expires_at` integer,
	`blocked_reason` text,
	`blocked_at` integer,
	`last_status_at` integer,
	`last_webhook_at` integer,
	`verified_at` integer,
	`synced_at` integer,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `contact_identities` (
	`workspace_id` text NOT NULL,
	`kind` text NOT NULL,
	`value` text NOT NULL,
	`contact_id` text NOT NULL,
	`since` integer,
	PRIMARY KEY(`workspace_id`, `kind`, `value`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `contact_identities_contact` ON `contact_identities` (`workspace_id`,`contact_id`);--> statement-breakpoint
CREATE TABLE `contacts` (
	`row_id` integer PRIMARY KEY NOT NULL,
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`kind` text NOT NULL,
	`phone_number` text,
	`wa_id` text,
	`user_id` text,
	`username` text,
	`name` text,
	`tags` text NOT NULL,
	`opted_in` integer NOT NULL,
	`consent_at` integer,
	`consent_proof` text,
	`opted_out_at` integer,
	`marketing_blocked_until` integer,
	`source` text NOT NULL,
	`merged_into` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `contacts_id` ON `contacts` (`workspace_id`,`id`);--> statement-breakpoint
CREATE INDEX `contacts_merged` ON `contacts` (`workspace_id`,`merged_into`) WHERE merged_into IS NOT NULL;--> statement-breakpoint
CREATE TABLE `conversations` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`contact_id` text NOT NULL,
	`peer` text NOT NULL,
	`last_message_id` text,
	`last_message_at` integer NOT NULL,
	`last_message_direction` text,
	`last_message_preview` text,
	`unread_count` integer NOT NULL,
	`message_count` integer NOT NULL,
	`last_inbound_at` integer,
	`read_at` integer,
	`status` text NOT NULL,
	`merged_into` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `conversations_pair` ON `conversations` (`workspace_id`,`contact_id`,`phone_number_id`);--> statement-breakpoint
CREATE INDEX `conversations_inbox` ON `conversations` (`workspace_id`,`last_message_at`,`id`);--> statement-breakpoint
CREATE INDEX `conversations_merged` ON `conversations` (`workspace_id`,`merged_into`) WHERE merged_into IS NOT NULL;--> statement-breakpoint
CREATE TABLE `message_events` (
	`phone_number_id` text NOT NULL,
	`target` text NOT NULL,
	`kind` text NOT NULL,
	`actor` text NOT NULL,
	`workspace_id` text NOT NULL,
	`at` integer NOT NULL,
	`payload` text NOT NULL,
	PRIMARY KEY(`phone_number_id`, `target`, `kind`, `actor`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `messages` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`conversation_id` text NOT NULL,
	`contact_id` text NOT NULL,
	`direction` text NOT NULL,
	`origin` text NOT NULL,
	`type` text NOT NULL,
	`content` text NOT NULL,
	`status` text NOT NULL,
	`wa_message_id` text,
	`to_number` text,
	`to_user` text,
	`from_number` text,
	`reply_to` text,
	`category` text,
	`lane` text NOT NULL,
	`open` integer,
	`seq` integer NOT NULL,
	`not_before` integer NOT NULL,
	`expires_at` integer,
	`scheduled_at` integer,
	`lease_until` integer,
	`claim` text,
	`attempts` integer NOT NULL,
	`failures` integer NOT NULL,
	`ambiguous_at` integer,
	`unknown_ms` integer,
	`resent_at` integer,
	`error` text,
	`pricing` text,
	`at` integer NOT NULL,
	`received_at` integer NOT NULL,
	`position` integer NOT NULL,
	`created_at` integer NOT NULL,
	`sent_at` integer,
	`delivered_at` integer,
	`read_at` integer,
	`failed_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `messages_wa` ON `messages` (`phone_number_id`,`wa_message_id`) WHERE wa_message_id IS NOT NULL;--> statement-breakpoint
CREATE INDEX `messages_thread` ON `messages` (`workspace_id`,`conversation_id`,`at`,`received_at`,`position`,`id`);--> statement-breakpoint
CREATE INDEX `messages_open_queue` ON `messages` (`workspace_id`,`conversation_id`,`lane`,`seq`) WHERE open = 1;--> statement-breakpoint
CREATE INDEX `messages_scheduled` ON `messages` (`scheduled_at`) WHERE status = 'scheduled';--> statement-breakpoint
CREATE INDEX `messages_ambiguous` ON `messages` (`ambiguous_at`) WHERE ambiguous_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `sweep_cursors` (
	`name` text PRIMARY KEY NOT NULL,
	`cursor` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `dead_letters` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`queue` text NOT NULL,
	`reason` text NOT NULL,
	`r2_key` text NOT NULL,
	`created_at` integer NOT NULL,
	`replayed_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `webhook_events` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text,
	`provider` text NOT NULL,
	`kind` text NOT NULL,
	`field` text,
	`raw` text,
	`r2_key` text,
	`reason` text,
	`received_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `webhook_events_recent` ON `webhook_events` (`workspace_id`,`received_at`,`id`);