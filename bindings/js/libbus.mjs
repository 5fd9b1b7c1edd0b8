/* libbus.mjs: libbus.js, which lies beside it, as a module. */
import "./libbus.js";

const { libbus } = globalThis;
libbus.src ||= new URL("libbus.js", import.meta.url).href;

export { libbus, libbus as default };
