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

// The connection. A page says what it hears with `listen`, what it takes of the whole state with
// `take`, how long it waits for that, POLL_MS, and what it announces: LOST_WORDS and BACK_WORDS.
const LINKS = {connecting: "Connecting", live: "Live", polling: "Asking every 2 s", reconnecting: "Reconnecting", stopping: "Stopping", gone: "No contact"};
const SILENCE_MS = 3500;   // three missed ticks of the service
// `seen` is the reading of this browser's clock at the last word of the service.
let link = "connecting", seen = performance.now(), lostAt = null, source = null, retry = 0;

function heard() {
  seen = performance.now();
  lostAt = null;
}

function setLink(next) {
  if (link === next) return;
  const before = link;
  link = next;
  document.body.dataset.link = next;
  if (next === "gone") announce(LOST_WORDS);
  else if (before === "gone" && (next === "live" || next === "polling")) announce(BACK_WORDS);
  draw();
}

function connect() {
  clearTimeout(retry);
  if (source) source.close();
  const mine = source = new EventSource("events");
  listen((name, hear) => mine.addEventListener(name, (event) => {
    if (mine !== source) return;
    heard();
    hear(JSON.parse(event.data));
    later();
  }), mine);
  mine.onerror = () => {
    if (mine !== source) return;
    lost();
    // The browser connects again by itself, unless it was refused: then the state is asked for.
    if (mine.readyState === EventSource.CLOSED) poll();
  };
}

async function poll() {
  let pause = 2000;
  try {
    const answer = await fetch("state", {cache: "no-store", signal: AbortSignal.timeout(POLL_MS)});
    if (!answer.ok) throw new Error(answer.statusText);
    take(await answer.json());
    heard();
    setLink("polling");
  } catch { lost(); pause = 1000; }
  later();
  clearTimeout(retry);
  retry = setTimeout(connect, pause);
}

function lost() {
  if (lostAt === null) lostAt = performance.now();
  if (link === "live" || link === "polling") setLink("reconnecting");
}

function watch() {
  const now = performance.now();
  if (link === "live" && now - seen > SILENCE_MS) {
    lost();
    lostAt -= 1000;  // it has been silent for long enough already
    connect();  // it may be the connection that is dead, and not the service
  }
  if (lostAt !== null && link !== "gone" && now - lostAt > 2000) setLink("gone");
  if (link === "gone" && now - seen > SILENCE_MS && source.readyState === EventSource.OPEN && now - lostAt > 10000) {
    lostAt = now;
    connect();
  }
}
