-- Outbound webhooks. What happens is told once, by triggers, in the transaction in which it happens: a crash after the
-- commit loses nothing, whoever wrote. One row per event, whatever the number of endpoints, and none in a workspace
-- whose endpoints do not ask for it. How far an endpoint has come is one number; only conversations that fail have a row.
CREATE TABLE `webhook_endpoints` (
	`workspace_id` text NOT NULL,
	`id` text NOT NULL,
	`url` text NOT NULL,
	`description` text,
	`events` text NOT NULL,
	`types` text NOT NULL,
	`own_host` text NOT NULL,
	`status` text NOT NULL,
	`disabled_reason` text,
	`disabled_at` integer,
	`cursor` integer NOT NULL,
	`log_chunk` integer NOT NULL,
	`failures` integer NOT NULL,
	`failing_since` integer,
	`next_at` integer,
	`replay_next` integer,
	`replay_until` integer,
	`replay_at` integer,
	`replay_failures` integer NOT NULL,
	`lease` text,
	`lease_until` integer,
	`last_success_at` integer,
	`last_error` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `webhook_feeds` (
	`workspace_id` text PRIMARY KEY NOT NULL,
	`types` text NOT NULL,
	`endpoints` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `webhook_outbox` (
	`workspace_id` text NOT NULL,
	`seq` integer NOT NULL,
	`conversation_id` text NOT NULL,
	`type` text NOT NULL,
	`ref` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `seq`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `webhook_lags` (
	`workspace_id` text NOT NULL,
	`endpoint_id` text NOT NULL,
	`conversation_id` text NOT NULL,
	`seq` integer NOT NULL,
	`attempts` integer NOT NULL,
	`first_failed_at` integer,
	`next_at` integer NOT NULL,
	PRIMARY KEY(`workspace_id`, `endpoint_id`, `conversation_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `webhook_deliveries` (
	`workspace_id` text NOT NULL,
	`endpoint_id` text NOT NULL,
	`slot` integer NOT NULL,
	`chunk` integer NOT NULL,
	`n` integer NOT NULL,
	`failed` integer NOT NULL,
	`entries` text NOT NULL,
	PRIMARY KEY(`workspace_id`, `endpoint_id`, `slot`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TRIGGER webhook_outbox_new_message AFTER INSERT ON messages
WHEN new.origin = 'echo' OR (new.direction = 'inbound' AND new.origin = 'live') BEGIN
  INSERT INTO webhook_outbox (workspace_id, seq, conversation_id, type, ref, at)
  SELECT f.workspace_id, 1 + COALESCE((SELECT max(o.seq) FROM webhook_outbox o WHERE o.workspace_id = f.workspace_id), 0), new.conversation_id,
    iif(new.direction = 'inbound', 'message.received', 'message.sent'), new.id, CAST(unixepoch('subsec') * 1000 AS INTEGER)
  FROM webhook_feeds f WHERE f.workspace_id = new.workspace_id
    AND instr(f.types, iif(new.direction = 'inbound', ' message.received ', ' message.sent ')) > 0;
END;
--> statement-breakpoint
CREATE TRIGGER webhook_outbox_status AFTER UPDATE OF status ON messages
WHEN new.direction = 'outbound' AND new.status IS NOT old.status AND new.status IN ('sent', 'delivered', 'read', 'failed') BEGIN
  INSERT INTO webhook_outbox (workspace_id, seq, conversation_id, type, ref, at)
  SELECT f.workspace_id, 1 + COALESCE((SELECT max(o.seq) FROM webhook_outbox o WHERE o.workspace_id = f.workspace_id), 0), new.conversation_id,
    'message.' || new.status, new.id, CAST(unixepoch('subsec') * 1000 AS INTEGER)
  FROM webhook_feeds f WHERE f.workspace_id = new.workspace_id AND instr(f.types, ' message.' || new.status || ' ') > 0;
END;
--> statement-breakpoint
CREATE TRIGGER webhook_outbox_event AFTER INSERT ON webhook_events BEGIN
  INSERT INTO webhook_outbox (workspace_id, seq, conversation_id, type, ref, at)
  SELECT f.workspace_id, 1 + COALESCE((SELECT max(o.seq) FROM webhook_outbox o WHERE o.workspace_id = f.workspace_id), 0), '',
    'webhook_event.created', new.id, CAST(unixepoch('subsec') * 1000 AS INTEGER)
  FROM webhook_feeds f WHERE f.workspace_id = new.workspace_id AND instr(f.types, ' webhook_event.created ') > 0;
END;
