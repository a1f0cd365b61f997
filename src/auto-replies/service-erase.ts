export { eraseFirings } from "./store-erase";
