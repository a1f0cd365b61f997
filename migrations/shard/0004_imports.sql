CREATE TABLE `imports` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`status` text NOT NULL,
	`file_name` text,
	`country` text,
	`total_rows` integer NOT NULL,
	`cursor` integer NOT NULL,
	`imported` integer NOT NULL,
	`updated` integer NOT NULL,
	`failed` integer NOT NULL,
	`step_id` text,
	`step_new` integer NOT NULL,
	`created_by` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`completed_at` integer,
	`due_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `imports_due` ON `imports` (`due_at`);
