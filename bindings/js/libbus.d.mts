/** libbus.mjs: the types are those of libbus.js. */
export { libbus, libbus as default } from "./libbus.js";
export type * from "./libbus.js";
