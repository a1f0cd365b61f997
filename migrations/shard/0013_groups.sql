-- Lists of contacts. WITHOUT ROWID: half the billed writes. A member costs two rows; sizes are kept by the statement
-- that adds members, once per batch, and by triggers where members leave.
CREATE TABLE `contact_groups` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`capacity` integer NOT NULL,
	`auto_fill` integer NOT NULL,
	`size` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `contact_groups_auto` ON `contact_groups` (`workspace_id`,`id`) WHERE auto_fill = 1;
--> statement-breakpoint
CREATE INDEX `contact_groups_open` ON `contact_groups` (`workspace_id`,`id`) WHERE auto_fill = 1 AND size < capacity;
--> statement-breakpoint
CREATE TABLE `contact_group_members` (
	`workspace_id` text NOT NULL,
	`group_id` text NOT NULL,
	`contact_id` text NOT NULL,
	`slot` text NOT NULL,
	`added_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `group_id`, `contact_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `contact_group_members_slot` ON `contact_group_members` (`workspace_id`,`contact_id`,`slot`);
--> statement-breakpoint
CREATE TRIGGER contact_group_members_left AFTER DELETE ON contact_group_members BEGIN
  UPDATE contact_groups SET size = size - 1 WHERE workspace_id = old.workspace_id AND id = old.group_id;
END;
--> statement-breakpoint
-- A merged contact's places go to who it became, unless that one has a place there already, or in another automatic group.
CREATE TRIGGER contacts_groups_merged AFTER UPDATE OF merged_into ON contacts WHEN new.merged_into IS NOT NULL AND old.merged_into IS NULL BEGIN
  UPDATE OR IGNORE contact_group_members SET contact_id = new.merged_into WHERE workspace_id = new.workspace_id AND contact_id = new.id;
  DELETE FROM contact_group_members WHERE workspace_id = new.workspace_id AND contact_id = new.id;
END;
--> statement-breakpoint
CREATE TRIGGER contacts_groups_deleted AFTER UPDATE OF deleted_at ON contacts
WHEN new.deleted_at IS NOT NULL AND old.deleted_at IS NULL AND new.merged_into IS NULL BEGIN
  DELETE FROM contact_group_members WHERE workspace_id = new.workspace_id AND contact_id = new.id;
END;
--> statement-breakpoint
CREATE TRIGGER contacts_groups_gone AFTER DELETE ON contacts BEGIN
  DELETE FROM contact_group_members WHERE workspace_id = old.workspace_id AND contact_id = old.id;
END;
