CREATE TABLE `templates` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`phone_number_id` text NOT NULL,
	`business_id` text NOT NULL,
	`name` text NOT NULL,
	`language` text NOT NULL,
	`category` text NOT NULL,
	`parameter_format` text NOT NULL,
	`components` text NOT NULL,
	`status` text NOT NULL,
	`provider_status` text,
	`meta_template_id` text,
	`former_template_id` text,
	`rejection_reason` text,
	`note` text,
	`quality_score` text,
	`status_at` integer,
	`due_at` integer,
	`claim` text,
	`attempts` integer NOT NULL,
	`synced_at` integer,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deleted_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `templates_name` ON `templates` (`workspace_id`,`business_id`,`name`,`language`);
--> statement-breakpoint
CREATE INDEX `templates_provider` ON `templates` (`workspace_id`,`meta_template_id`) WHERE meta_template_id IS NOT NULL;
--> statement-breakpoint
CREATE INDEX `templates_due` ON `templates` (`due_at`) WHERE due_at IS NOT NULL;
--> statement-breakpoint
-- The list's total. Templates come and go by several statements (made, found, deleted, taken back): one place counts them.
CREATE TRIGGER `templates_count_insert` AFTER INSERT ON `templates` WHEN new.deleted_at IS NULL BEGIN
  INSERT INTO list_totals (workspace_id, list, n) VALUES (new.workspace_id, 'templates', 1)
  ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1;
END;
--> statement-breakpoint
CREATE TRIGGER `templates_count_update` AFTER UPDATE OF deleted_at ON `templates`
WHEN (old.deleted_at IS NULL) <> (new.deleted_at IS NULL) BEGIN
  UPDATE list_totals SET n = n + CASE WHEN new.deleted_at IS NULL THEN 1 ELSE -1 END
  WHERE workspace_id = new.workspace_id AND list = 'templates';
END;
--> statement-breakpoint
CREATE TRIGGER `templates_count_delete` AFTER DELETE ON `templates` WHEN old.deleted_at IS NULL BEGIN
  UPDATE list_totals SET n = n - 1 WHERE workspace_id = old.workspace_id AND list = 'templates';
END;
