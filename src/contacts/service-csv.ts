/** What other slices that write CSV use. */
export { csvCell } from "./export";
