import { describe, expect, it } from "vitest";
import { ROLES } from "../../src/auth/access";
import { loadDocument, type Operation, operationsOf } from "./openapi";
import type { Example } from "./reference";

/** The operation of this deployment that an example is about. */
export function operationOf({ endpoint }: Example, operations: readonly Operation[]): Operation {
  const wanted = endpoint.path.replaceAll(/\{\w+\}/g, "{}");
  const operation = operations.find(
    ({ method, path }) => method === endpoint.method && path.replaceAll(/\{\w+\}/g, "{}") === wanted,
  );
  if (!operation) throw new Error(`${endpoint.method} ${endpoint.path} does not exist`);
  return operation;
}

/**
 * Every endpoint of these examples exists, answers the documented status and is open to whom the document says.
 * `notForAgents` names those that an AGENT, "Customer support access", may not call (product 2, "Roles").
 */
export function describeEndpoints(examples: Record<string, Example>, notForAgents: readonly string[] = []): void {
  describe("every documented endpoint", async () => {
    const operations = operationsOf(await loadDocument());
    it.each(Object.entries(examples))("%s: path, status and who may call it", (title, found) => {
      const { authentication, status } = found;
      const operation = operationOf(found, operations);
      if (status) expect(Object.keys(operation.responses)).toContain(String(status.code));
      const roles = operation["x-roles"];
      switch (authentication.text) {
        case "Not required":
          expect(operation["x-access"]).toBe("public");
          break;
        case "Required":
          expect(operation["x-access"]).not.toBe("public");
          if (roles) {
            expect(roles).toEqual(notForAgents.includes(title) ? ROLES.filter((role) => role !== "AGENT") : ROLES);
          }
          break;
        case "Required (OWNER or ADMIN role)":
          expect(roles).toEqual(["OWNER", "ADMIN"]);
          break;
        case "Required (OWNER role only)":
          expect(roles).toEqual(["OWNER"]);
          break;
        case "Not required (Meta verification token used)":
        case "HMAC signature verification":
          expect(operation["x-signed-by"]).toBe("provider");
          break;
        default:
          expect.fail(`The document says ${authentication.text} in line ${authentication.line}`);
      }
    });
  });
}
