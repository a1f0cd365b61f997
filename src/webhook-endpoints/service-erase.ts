export { eraseLogged } from "./store-erase";
