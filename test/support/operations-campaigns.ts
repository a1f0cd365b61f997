import { env } from "cloudflare:workers";
import { newUuid } from "../../src/platform/ids";
import type { TestWorkspace } from "./identity";
import type { Call, OperationCase, World } from "./operations";

/** Campaigns in the states that their operations act on; nothing is sent of any. */
export interface WorldCampaigns {
  draft: string;
  sending: string;
  completed: string;
}

const PARAMS = { body: [{ type: "text", text: "{{contact.name|there}}" }] };

export async function newCampaigns(
  owner: TestWorkspace,
  phoneNumberId: string,
  templateId: string,
): Promise<WorldCampaigns> {
  const campaigns = { draft: newUuid(), sending: newUuid(), completed: newUuid() };
  const database = owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const snapshot = { template: { category: "MARKETING" }, components: PARAMS, fields: [], required: [] };
  await database.batch([
    database
      .prepare(
        `INSERT INTO campaigns (workspace_id, id, phone_number_id, template_id, name, status, template_params, version, snapshot, red_accepted, place,
           retry_unknown, feed_place, fed_at, total_contacts, sent_count, delivered_count, read_count, failed_count, skipped_count, pending_count,
           counted_at, started_at, ended_at, created_at, updated_at)
         SELECT ?1, j.value, ?2, ?3, 'Summer Sale', j.key, ?4, 0, iif(j.key = 'draft', NULL, ?5), 0, '', 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0,
           iif(j.key = 'draft', NULL, ?6), iif(j.key = 'completed', ?6, NULL), ?6, ?6 FROM json_each(?7) j`,
      )
      .bind(
        owner.workspaceId,
        phoneNumberId,
        templateId,
        JSON.stringify(PARAMS),
        JSON.stringify(snapshot),
        Date.now(),
        JSON.stringify(campaigns),
      ),
    database
      .prepare("INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'campaigns', 3)")
      .bind(owner.workspaceId),
  ]);
  return campaigns;
}

const of =
  (state: keyof WorldCampaigns) =>
  (world: World): Call => ({ params: { campaign_id: world.campaigns[state] } });
const draft = of("draft");

/** How the operations of campaigns are called. */
export const CAMPAIGN_CASES: Record<string, OperationCase> = {
  "POST /api/campaigns": {
    status: 201,
    call: ({ owner, phoneNumberId, templateId }) => ({
      body: {
        workspace_id: owner.workspaceId,
        phone_number_id: phoneNumberId,
        template_id: templateId,
        name: "Summer Sale 2024",
        audience: { tags: ["vip"] },
        template_params: PARAMS,
      },
    }),
  },
  "GET /api/campaigns": { status: 200, call: ({ owner }) => ({ query: { workspace_id: owner.workspaceId } }) },
  "GET /api/campaigns/{campaign_id}": { status: 200, call: draft },
  "PATCH /api/campaigns/{campaign_id}": {
    status: 200,
    call: (world) => ({ ...draft(world), body: { name: "Updated Campaign Name" } }),
  },
  "DELETE /api/campaigns/{campaign_id}": { status: 204, call: draft, once: true },
  "POST /api/campaigns/{campaign_id}/start": { status: 200, call: draft, once: true },
  "POST /api/campaigns/{campaign_id}/pause": { status: 200, call: of("sending"), once: true },
  "POST /api/campaigns/{campaign_id}/cancel": { status: 200, call: of("sending"), once: true },
  "POST /api/campaigns/{campaign_id}/retry-failed": { status: 200, call: of("completed"), once: true },
  "POST /api/campaigns/{campaign_id}/test-send": {
    status: 201,
    call: (world) => ({ ...draft(world), body: { to: "+12025550177" } }),
  },
  "GET /api/campaigns/{campaign_id}/recipients": { status: 200, call: draft },
  "GET /api/campaigns/{campaign_id}/estimate": { status: 200, call: draft },
  "POST /api/campaigns/{campaign_id}/estimate": {
    status: 200,
    call: (world) => ({ ...draft(world), body: { audience: { all: true } } }),
  },
};
