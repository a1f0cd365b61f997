/** How slices that take people from elsewhere read their numbers and names. */
export { readRow } from "./rows";
