import { z } from "@hono/zod-openapi";
import { sendComponents } from "../templates/schema";
import { sendBase } from "./schema";

export const sendTemplateBody = sendBase
  .extend({
    template_name: z.string().min(1, "Must not be empty").max(512),
    template_language: z.string().min(2, "Must be a language code such as en or en_US").max(20),
    components: sendComponents.optional(),
  })
  .openapi("SendTemplate");
