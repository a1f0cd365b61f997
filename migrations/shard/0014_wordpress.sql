-- WordPress sites that contacts are pulled from: what is asked, how far the reading is, what came of the last one.
CREATE TABLE `wordpress_sources` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`kind` text NOT NULL,
	`url` text NOT NULL,
	`own_host` text NOT NULL,
	`credentials_sealed` text,
	`config` text NOT NULL,
	`enabled` integer NOT NULL,
	`status` text NOT NULL,
	`sync_id` text,
	`cursor` text,
	`watermark` text,
	`step_id` text,
	`lease` text,
	`lease_until` integer,
	`not_before` integer NOT NULL,
	`failures` integer NOT NULL,
	`failed_syncs` integer NOT NULL,
	`counts` text NOT NULL,
	`started_at` integer,
	`last_error` text,
	`last_result` text,
	`due_at` integer,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `wordpress_sources_due` ON `wordpress_sources` (`status`,`due_at`) WHERE due_at IS NOT NULL;
