// A WebSocket that reconnects: patient, with jitter, and respecting `Retry-After`.
function stayConnected(url, options) {
  const { onopen, onmessage, health = "/readyz" } = options;
  const { firstMs = 500, mostMs = 30000, steadyMs = 10000 } = options;
  let failures = 0, timer, socket, stopped = false;

  // A refused handshake shows no status and no header, only 1006. The health endpoint shows both.
  async function retryAfterMs() {
    try {
      const response = await fetch(health, { cache: "no-store" });
      return 1000 * (Number(response.headers.get("Retry-After")) || 0);
    } catch {
      return 0; // no answer
    }
  }

  function connect() {
    let openedAt = Infinity;
    socket = new WebSocket(url); // no time-out: a held handshake is not a failure
    socket.onopen = () => {
      openedAt = performance.now();
      onopen?.(socket);
    };
    socket.onmessage = (event) => onmessage(event.data, socket);
    socket.onclose = async (event) => {
      if (stopped || event.code === 1000) return;
      // Only a lasting connection resets the back-off: one that closes at once is a failure.
      failures = performance.now() - openedAt > steadyMs ? 1 : failures + 1;
      const atLeastMs = openedAt === Infinity ? await retryAfterMs() : 0;
      const jitterMs = Math.random() * Math.min(mostMs, firstMs * 2 ** failures);
      if (!stopped) timer = setTimeout(connect, atLeastMs + jitterMs);
    };
  }

  connect();
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
      socket.close();
    },
  };
}
