/** Who a list's filter means, for other lists of the same people. */
export { type ContactFilter, matchOf } from "./search";
