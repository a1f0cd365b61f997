import type { Runtime } from "../platform/runtime";
import { dialog360Provider } from "./dialog360";
import { infobipProvider } from "./infobip";
import { metaProvider } from "./meta";
import type { Provider, ProviderName } from "./provider";

/** The adapter of a provider. */
export function providerFor(rt: Runtime, name: ProviderName): Provider {
  switch (name) {
    case "meta":
      return metaProvider(rt);
    case "360dialog":
      return dialog360Provider(rt);
    case "infobip":
      return infobipProvider(rt);
  }
}
