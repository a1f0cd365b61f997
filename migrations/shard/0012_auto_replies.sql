-- Cool-down, daily limit and "never twice" are one conditional insert into the firings: no counter is kept beside them.
CREATE TABLE `auto_replies` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`phone_number_id` text,
	`position` integer NOT NULL,
	`enabled` integer NOT NULL,
	`match` text NOT NULL,
	`answer` text NOT NULL,
	`cooldown` integer NOT NULL,
	`daily_limit` integer,
	`quiet` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `auto_reply_firings` (
	`workspace_id` text NOT NULL,
	`rule_id` text NOT NULL,
	`inbound_id` text NOT NULL,
	`contact_id` text NOT NULL,
	`conversation_id` text NOT NULL,
	`status` text NOT NULL,
	`message_id` text,
	`error` text,
	`at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `rule_id`, `inbound_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `auto_reply_firings_contact` ON `auto_reply_firings` (`workspace_id`,`contact_id`,`at`);
--> statement-breakpoint
CREATE TABLE `auto_reply_handovers` (
	`workspace_id` text NOT NULL,
	`conversation_id` text NOT NULL,
	`reason` text NOT NULL,
	`at` integer NOT NULL,
	`until` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `conversation_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `auto_reply_assistants` (
	`workspace_id` text PRIMARY KEY NOT NULL,
	`base_url` text NOT NULL,
	`model` text NOT NULL,
	`token_parameter` text NOT NULL,
	`api_key_sealed` text NOT NULL,
	`own_host` text NOT NULL,
	`updated_at` integer NOT NULL
) WITHOUT ROWID;
