-- Full-text search over contacts (pipeline 18). Contentless: it holds tokens only and is rebuilt from `contacts` by
-- `INSERT INTO contacts_fts …` after a restore, because an FTS table blocks `wrangler d1 export`.
-- `w` is the workspace (its id without dashes, one token), `flags` whether the contact opted in, `tags` each tag as one
-- hexadecimal token, so that every filter of the list is answered by the index and none of them scans.
CREATE VIRTUAL TABLE contacts_fts USING fts5(w, flags, tags, name, phone, content = '', contentless_delete = 1, tokenize = 'unicode61', prefix = '1 2 3 4');
--> statement-breakpoint
CREATE TRIGGER contacts_fts_insert AFTER INSERT ON contacts WHEN new.deleted_at IS NULL AND new.merged_into IS NULL BEGIN
  INSERT INTO contacts_fts (rowid, w, flags, tags, name, phone) VALUES (new.row_id, replace(new.workspace_id, '-', ''),
    CASE WHEN new.opted_in THEN 'in' ELSE 'out' END, (SELECT group_concat('t' || hex(value), ' ') FROM json_each(new.tags)),
    concat_ws(' ', new.name, new.username), ltrim(coalesce(new.phone_number, new.wa_id, ''), '+'));
END;
--> statement-breakpoint
CREATE TRIGGER contacts_fts_update AFTER UPDATE OF name, username, phone_number, wa_id, tags, opted_in, deleted_at, merged_into ON contacts
WHEN old.name IS NOT new.name OR old.username IS NOT new.username OR old.phone_number IS NOT new.phone_number OR old.wa_id IS NOT new.wa_id
  OR old.tags IS NOT new.tags OR old.opted_in IS NOT new.opted_in OR old.deleted_at IS NOT new.deleted_at OR old.merged_into IS NOT new.merged_into
BEGIN
  DELETE FROM contacts_fts WHERE rowid = old.row_id;
  INSERT INTO contacts_fts (rowid, w, flags, tags, name, phone) SELECT new.row_id, replace(new.workspace_id, '-', ''),
    CASE WHEN new.opted_in THEN 'in' ELSE 'out' END, (SELECT group_concat('t' || hex(value), ' ') FROM json_each(new.tags)),
    concat_ws(' ', new.name, new.username), ltrim(coalesce(new.phone_number, new.wa_id, ''), '+')
  WHERE new.deleted_at IS NULL AND new.merged_into IS NULL;
END;
--> statement-breakpoint
CREATE TRIGGER contacts_fts_delete AFTER DELETE ON contacts BEGIN
  DELETE FROM contacts_fts WHERE rowid = old.row_id;
END;
--> statement-breakpoint
INSERT INTO contacts_fts (rowid, w, flags, tags, name, phone) SELECT c.row_id, replace(c.workspace_id, '-', ''),
  CASE WHEN c.opted_in THEN 'in' ELSE 'out' END, (SELECT group_concat('t' || hex(value), ' ') FROM json_each(c.tags)),
  concat_ws(' ', c.name, c.username), ltrim(coalesce(c.phone_number, c.wa_id, ''), '+')
FROM contacts c WHERE c.deleted_at IS NULL AND c.merged_into IS NULL;
--> statement-breakpoint
-- Erasures: what must be gone, and how far that is. What names the person is in `names` and `threads` until it is done.
CREATE TABLE `contact_erasures` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`status` text NOT NULL,
	`look` integer NOT NULL,
	`phase` text NOT NULL,
	`place` text,
	`unsettled` integer NOT NULL,
	`contacts` text NOT NULL,
	`threads` text NOT NULL,
	`names` text NOT NULL,
	`messages` integer NOT NULL,
	`files` integer NOT NULL,
	`events` integer NOT NULL,
	`requested_by` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`completed_at` integer,
	`due_at` integer,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `contact_erasures_due` ON `contact_erasures` (`due_at`) WHERE due_at IS NOT NULL;
