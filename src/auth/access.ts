export const ROLES = ["OWNER", "ADMIN", "MEMBER", "AGENT"] as const;
export type Role = (typeof ROLES)[number];

const everyone: readonly Role[] = ROLES;
const admins: readonly Role[] = ["OWNER", "ADMIN"];

/** Who may do what: the one table of roles (product 2, contract 7). Shown per operation in the OpenAPI document. */
export const PERMISSIONS = {
  "workspace.read": everyone,
  "workspace.update": admins,
  "workspace.delete": ["OWNER"],
  "workspace.rotate_secrets": admins,
  "members.read": everyone,
  "members.manage": admins,
  "members.manage_owners": ["OWNER"],
  "phone_numbers.read": everyone,
  "phone_numbers.manage": admins,
  "phone_numbers.sync": everyone,
  "messages.read": everyone,
  "messages.send": everyone,
  "media.read": everyone,
  "media.upload": everyone,
  "media.delete": ["OWNER", "ADMIN", "MEMBER"],
  "conversations.read": everyone,
  "conversations.answer": everyone,
  "webhook_events.read": admins,
  "dead_letters.read": admins,
  "dead_letters.replay": admins,
  "webhook_endpoints.read": admins,
  "webhook_endpoints.manage": admins,
  "auto_replies.read": ["OWNER", "ADMIN", "MEMBER"],
  "auto_replies.manage": ["OWNER", "ADMIN", "MEMBER"],
  "auto_replies.assistant": admins,
  "realtime.connect": everyone,
  "contacts.read": everyone,
  "contacts.manage": ["OWNER", "ADMIN", "MEMBER"],
  "groups.read": everyone,
  "groups.manage": ["OWNER", "ADMIN", "MEMBER"],
  "wordpress_sources.read": admins,
  "wordpress_sources.manage": admins,
  "statuses.read": everyone,
  "statuses.manage": ["OWNER", "ADMIN", "MEMBER"],
  "templates.read": everyone,
  "templates.manage": ["OWNER", "ADMIN", "MEMBER"],
} as const satisfies Record<string, readonly Role[]>;

export type Permission = keyof typeof PERMISSIONS;

/** An API key acts as ADMIN without these (contract 7). */
const NOT_FOR_KEYS: ReadonlySet<Permission> = new Set<Permission>([
  "members.manage",
  "members.manage_owners",
  "workspace.rotate_secrets",
  "workspace.delete",
]);

export function keyMay(permission: Permission): boolean {
  return !NOT_FOR_KEYS.has(permission) && roleMay("ADMIN", permission);
}

export function roleMay(role: Role, permission: Permission): boolean {
  return (PERMISSIONS[permission] as readonly Role[]).includes(role);
}

/** The documented text of a 403 (003: "Insufficient permissions. OWNER or ADMIN role required"). */
export function insufficient(permission: Permission): string {
  return `Insufficient permissions. ${PERMISSIONS[permission].join(" or ")} role required`;
}

/**
 * How an operation is protected. Every operation says so, the OpenAPI document shows it (`x-access`, `x-permission`,
 * `x-roles`), and a test walks the document and refuses one that says nothing.
 */
export type Access =
  /** Nobody is asked who they are: sign-up, sign-in, documents. */
  | { kind: "public" }
  /** A provider's signature, a verify token, a one-time ticket, a signed link or a refresh token, checked by the operation itself. */
  | { kind: "signed"; by: "provider" | "ticket" | "link" | "refresh_token" }
  /** A signed-in user, in no workspace. */
  | { kind: "user" }
  /** A member of the workspace, or its API key, with this permission. `item` routes name no workspace: a foreign id is a 404. */
  | { kind: "workspace"; permission: Permission; item?: true };
