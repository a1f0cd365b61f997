/** What slices that make contacts in bulk add to their transaction. */
export { fillGroups, type NewContacts } from "./store-fill";
