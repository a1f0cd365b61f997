export { sendInteractiveBody } from "./schema-kinds";
