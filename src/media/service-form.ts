/** What other slices use to take a file: the form piece by piece, and a writer to R2 with one part in memory. */
export { fileMissing, readForm } from "./multipart";
export { ObjectWriter } from "./object-writer";
