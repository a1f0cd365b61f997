/** The provider's words, read. */

export type TemplateStatus = "PENDING" | "APPROVED" | "REJECTED";
export type TemplateCategory = "MARKETING" | "UTILITY" | "AUTHENTICATION";

/**
 * The documented state of a template in Meta's words (contract 9). FLAGGED and LOCKED warn, and go on being sent. A
 * paused one comes back by itself, so it waits; what does not come back is rejected. A word nobody knows is not "yes".
 */
export function statusOf(word: string): TemplateStatus {
  switch (word) {
    case "APPROVED":
    case "REINSTATED":
    case "UNARCHIVED":
    case "FLAGGED":
    case "LOCKED":
      return "APPROVED";
    case "REJECTED":
    case "DISABLED":
    case "DELETED":
    case "PENDING_DELETION":
    case "ARCHIVED":
    case "LIMIT_EXCEEDED":
      return "REJECTED";
    default:
      return "PENDING";
  }
}

/** Whether a template is going, or gone: no row is made of one that is. */
export function isLeaving(word: string): boolean {
  return word === "DELETED" || word === "PENDING_DELETION";
}

/** A category of older days, or one nobody knows, is held to the strictest rules. */
export function categoryOf(word: string): TemplateCategory {
  return word === "UTILITY" || word === "AUTHENTICATION" ? word : "MARKETING";
}
