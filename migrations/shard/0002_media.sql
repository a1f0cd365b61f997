CREATE TABLE `media` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`type` text NOT NULL,
	`source` text NOT NULL,
	`status` text NOT NULL,
	`object_id` text,
	`file_name` text,
	`file_size` integer,
	`mime_type` text NOT NULL,
	`sha256` text,
	`original_url` text,
	`uploaded_by` text,
	`phone_number_id` text,
	`provider_media_id` text,
	`message_id` text,
	`error` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `media_listed` ON `media` (`workspace_id`,`id`) WHERE status = 'ready' AND deleted_at IS NULL;
--> statement-breakpoint
CREATE INDEX `media_by_type` ON `media` (`workspace_id`,`type`,`id`) WHERE status = 'ready' AND deleted_at IS NULL;
--> statement-breakpoint
CREATE UNIQUE INDEX `media_inbound` ON `media` (`workspace_id`,`phone_number_id`,`provider_media_id`) WHERE provider_media_id IS NOT NULL;
--> statement-breakpoint
CREATE INDEX `media_object` ON `media` (`workspace_id`,`object_id`) WHERE object_id IS NOT NULL AND deleted_at IS NULL;
--> statement-breakpoint
CREATE INDEX `media_deleted` ON `media` (`deleted_at`) WHERE deleted_at IS NOT NULL AND object_id IS NOT NULL;
--> statement-breakpoint
CREATE TABLE `media_objects` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`state` text NOT NULL,
	`sha256` text,
	`size` integer,
	`multipart_id` text,
	`due_at` integer,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `media_objects_content` ON `media_objects` (`workspace_id`,`sha256`) WHERE state = 'ready';
--> statement-breakpoint
CREATE INDEX `media_objects_due` ON `media_objects` (`due_at`) WHERE due_at IS NOT NULL;
--> statement-breakpoint
CREATE TABLE `media_uploads` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`multipart_id` text NOT NULL,
	`file_name` text,
	`mime_type` text,
	`file_size` integer NOT NULL,
	`parts` text NOT NULL,
	`uploaded_by` text,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `media_provider_ids` (
	`workspace_id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`sha256` text NOT NULL,
	`mime_type` text NOT NULL,
	`provider_media_id` text NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `phone_number_id`, `sha256`, `mime_type`)
) WITHOUT ROWID;
