/** The example file of a header: one of the workspace's own here, a handle at the provider. */
import { z } from "zod";
import type { Components } from "./components";

const sampledHeader = z.looseObject({
  format: z.string(),
  example: z.object({ media_id: z.string() }),
});

/** The file of ours that a reviewer is shown, and in which format of header; null when the components name none. */
export function sampleOf(components: Components): { mediaId: string; format: string } | null {
  const header = sampledHeader.safeParse(components.header).data;
  return header === undefined ? null : { mediaId: header.example.media_id, format: header.format };
}

/** The components with the provider's handle in place of our file. */
export function withHandle(components: Components, handle: string): Components {
  const header = sampledHeader.safeParse(components.header).data;
  if (header === undefined) return components;
  return { ...components, header: { ...header, example: { header_handle: [handle] } } };
}
