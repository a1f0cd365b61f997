/** What other slices that look people up by number use. */
export { numberVariants } from "./variants";
