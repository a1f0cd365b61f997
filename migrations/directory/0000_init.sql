-- Tables with TEXT keys are WITHOUT ROWID: half the billed writes. drizzle-kit cannot say that; migrations are written by hand from here on.
CREATE TABLE `refresh_tokens` (
	`hash` text PRIMARY KEY NOT NULL,
	`session_id` text NOT NULL,
	`created_at` integer NOT NULL,
	`used_at` integer,
	`successor_sealed` text
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `refresh_tokens_session` ON `refresh_tokens` (`session_id`);--> statement-breakpoint
CREATE TABLE `sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`user_id` text NOT NULL,
	`workspace_id` text,
	`expires_at` integer NOT NULL,
	`revoked_at` integer,
	`created_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `sessions_user` ON `sessions` (`user_id`);--> statement-breakpoint
CREATE TABLE `user_identities` (
	`provider` text NOT NULL,
	`subject` text NOT NULL,
	`user_id` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`provider`, `subject`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `users` (
	`id` text PRIMARY KEY NOT NULL,
	`email` text NOT NULL,
	`name` text,
	`password_hash` text,
	`email_verified` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `users_email` ON `users` (`email`);--> statement-breakpoint
CREATE TABLE `members` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`user_id` text,
	`email` text NOT NULL,
	`role` text NOT NULL,
	`status` text NOT NULL,
	`invitation_hash` text,
	`invitation_expires_at` integer,
	`invited_by` text,
	`joined_at` integer,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `members_email` ON `members` (`workspace_id`,`email`);--> statement-breakpoint
CREATE INDEX `members_user` ON `members` (`user_id`,`workspace_id`);--> statement-breakpoint
CREATE UNIQUE INDEX `members_invitation` ON `members` (`invitation_hash`);--> statement-breakpoint
CREATE TABLE `shards` (
	`number` integer PRIMARY KEY NOT NULL,
	`bytes` integer NOT NULL,
	`measured_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `workspaces` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`slug` text NOT NULL,
	`shard` integer NOT NULL,
	`plan` text NOT NULL,
	`status` text NOT NULL,
	`settings` text NOT NULL,
	`api_key_hash` text NOT NULL,
	`api_key_sealed` text NOT NULL,
	`webhook_secret_sealed` text NOT NULL,
	`created_by` text NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `workspaces_slug` ON `workspaces` (`slug`);--> statement-breakpoint
CREATE UNIQUE INDEX `workspaces_api_key` ON `workspaces` (`api_key_hash`);--> statement-breakpoint
CREATE INDEX `workspaces_shard` ON `workspaces` (`shard`);--> statement-breakpoint
CREATE TABLE `provider_numbers` (
	`provider` text NOT NULL,
	`provider_number_id` text NOT NULL,
	`workspace_id` text NOT NULL,
	`shard` integer NOT NULL,
	`phone_number_id` text NOT NULL,
	`business_id` text,
	`phone_digits` text,
	`app_secret_sealed` text,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`provider`, `provider_number_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `provider_numbers_business` ON `provider_numbers` (`provider`,`business_id`);--> statement-breakpoint
CREATE UNIQUE INDEX `provider_numbers_phone` ON `provider_numbers` (`phone_number_id`);--> statement-breakpoint
CREATE TABLE `unrouted_events` (
	`id` text PRIMARY KEY NOT NULL,
	`provider` text NOT NULL,
	`provider_number_id` text,
	`raw` text,
	`r2_key` text,
	`received_at` integer NOT NULL
) WITHOUT ROWID;
