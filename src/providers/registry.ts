import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { metaProvider } from "./meta";
import type { Provider, ProviderName } from "./provider";

/** The adapter of a provider. Throws `not_configured` for one this deployment cannot speak to. */
export function providerFor(rt: Runtime, name: ProviderName): Provider {
  switch (name) {
    case "meta":
      return metaProvider(rt);
    case "360dialog":
    case "infobip":
      throw new AppError("not_configured", `The provider ${name} is not available yet`);
  }
}
