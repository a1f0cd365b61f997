-- The line "About" of numbers' profiles, each with its time. Few rows; the indexes hold what is not settled only.
CREATE TABLE `about_statuses` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`text` text NOT NULL,
	`status` text NOT NULL,
	`at` integer NOT NULL,
	`scheduled_at` integer,
	`not_before` integer NOT NULL,
	`attempts` integer NOT NULL,
	`lease` text,
	`lease_until` integer,
	`look_at` integer,
	`applied_at` integer,
	`error` text,
	`created_by` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `about_statuses_open` ON `about_statuses` (`workspace_id`,`phone_number_id`,`at`,`id`) WHERE look_at IS NOT NULL;
--> statement-breakpoint
CREATE INDEX `about_statuses_look` ON `about_statuses` (`look_at`) WHERE look_at IS NOT NULL;
