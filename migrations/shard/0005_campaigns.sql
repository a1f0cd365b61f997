-- WITHOUT ROWID: half the billed writes. A recipient is written when the audience is frozen and when it is taken, no more.
CREATE TABLE `campaigns` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`template_id` text,
	`name` text NOT NULL,
	`status` text NOT NULL,
	`audience` text,
	`template_params` text,
	`scheduled_at` integer,
	`paused_at` integer,
	`pause_reason` text,
	`version` integer NOT NULL,
	`snapshot` text,
	`run_id` text,
	`red_accepted` integer NOT NULL,
	`phase` text,
	`place` text NOT NULL,
	`step_id` text,
	`retry_unknown` integer NOT NULL,
	`feed_place` text NOT NULL,
	`fed_at` integer NOT NULL,
	`total_contacts` integer NOT NULL,
	`sent_count` integer NOT NULL,
	`delivered_count` integer NOT NULL,
	`read_count` integer NOT NULL,
	`failed_count` integer NOT NULL,
	`skipped_count` integer NOT NULL,
	`pending_count` integer NOT NULL,
	`counted_at` integer NOT NULL,
	`started_at` integer,
	`ended_at` integer,
	`due_at` integer,
	`created_by` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `campaigns_status` ON `campaigns` (`workspace_id`,`status`,`id`) WHERE deleted_at IS NULL;
--> statement-breakpoint
CREATE INDEX `campaigns_due` ON `campaigns` (`due_at`) WHERE due_at IS NOT NULL;
--> statement-breakpoint
CREATE TABLE `campaign_recipients` (
	`workspace_id` text NOT NULL,
	`campaign_id` text NOT NULL,
	`contact_id` text NOT NULL,
	`state` text NOT NULL,
	`reason` text,
	`fields` text,
	`message_id` text,
	PRIMARY KEY(`workspace_id`, `campaign_id`, `contact_id`)
) WITHOUT ROWID;
