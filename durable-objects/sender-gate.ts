import { DurableObject } from "cloudflare:workers";

export class SenderGate extends DurableObject<Env> {}
