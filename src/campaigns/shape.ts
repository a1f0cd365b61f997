import type { z } from "zod";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import type { campaignResource, recipientResource } from "./schema";
import type { Campaign } from "./store";
import type { Recipient } from "./store-recipients";

export function shapeCampaign(campaign: Campaign): z.input<typeof campaignResource> {
  return {
    id: campaign.id,
    workspace_id: campaign.workspaceId,
    phone_number_id: campaign.phoneNumberId,
    template_id: campaign.templateId,
    name: campaign.name,
    total_contacts: campaign.totalContacts,
    sent_count: campaign.sentCount,
    delivered_count: campaign.deliveredCount,
    read_count: campaign.readCount,
    failed_count: campaign.failedCount,
    status: campaign.status,
    skipped_count: campaign.skippedCount,
    pending_count: campaign.pendingCount,
    audience: campaign.audience,
    template_params: campaign.templateParams,
    scheduled_at: isoSecondsOrNull(campaign.scheduledAt),
    paused_at: isoSecondsOrNull(campaign.pausedAt),
    pause_reason: campaign.pauseReason,
    preparing: campaign.phase !== null,
    started_at: isoSecondsOrNull(campaign.startedAt),
    ended_at: isoSecondsOrNull(campaign.endedAt),
    counted_at: campaign.countedAt === 0 ? null : isoSeconds(campaign.countedAt),
    created_at: isoSeconds(campaign.createdAt),
    updated_at: isoSeconds(campaign.updatedAt),
  };
}

export function shapeRecipient(recipient: Recipient): z.input<typeof recipientResource> {
  return {
    ...recipient,
    reason: recipient.reason ?? recipient.error?.title ?? null,
    sent_at: isoSecondsOrNull(recipient.sent_at),
    delivered_at: isoSecondsOrNull(recipient.delivered_at),
    read_at: isoSecondsOrNull(recipient.read_at),
    failed_at: isoSecondsOrNull(recipient.failed_at),
  };
}
