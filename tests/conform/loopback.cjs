// Loaded before a server that would listen at every address (node -r): it listens at 127.0.0.1 only.
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
    const options = typeof args[0] === "object" && args[0] !== null ? args[0] : { port: Number(args[0]) };
    const callback = args.find((a) => typeof a === "function");
    return listen.call(this, { ...options, host: "127.0.0.1" }, callback);
};
