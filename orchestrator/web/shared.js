const NAMES = {booting: "Booting", probing_redis: "Probing Redis", grace: "Grace", ready: "Ready", degraded: "Degraded"};
const $ = (id) => document.getElementById(id);
const make = (space, tag, attributes, children) => {
  const node = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const h = (tag, attributes, ...children) => make(false, tag, attributes, children);
const s = (tag, attributes, ...children) => make(true, tag, attributes, children);
const glyph = (name) => s("svg", {viewBox: "0 0 24 24", "aria-hidden": "true"}, s("use", {href: "#g-" + name}));
const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const put = (id, text) => say($(id), text);
const set = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };
function lasting(seconds) {
  if (seconds < 0.9995) return Math.round(seconds * 1000) + " ms";
  if (seconds < 9.95) return seconds.toFixed(1) + " s";
  if (seconds < 59.5) return Math.round(seconds) + " s";
  const total = Math.round(seconds), minutes = Math.floor(total / 60), hours = Math.floor(minutes / 60);
  if (hours >= 24) return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
  if (hours) return hours + " h " + (minutes % 60) + " min";
  return minutes + " min" + (total % 60 && minutes < 10 ? " " + (total % 60) + " s" : "");
}
// Whole seconds for what is counting up, so that it does not flicker.
const counting = (seconds) => seconds < 1 ? "less than 1 s" : lasting(Math.floor(seconds)).replace(/\.0 s$/, " s");
const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});
const announce = (text) => say($("announce"), text);
