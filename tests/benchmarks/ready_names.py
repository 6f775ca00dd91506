"""The candidates, by the names that the table shows."""

GATE = "the gate"
NO_CLOSES = "the gate, count_closes=False and no drain"
ALONE = "the application alone"
AGAIN = "the application alone, on another port"
NOTHING = "a middleware that does nothing"
BASE = "Starlette's BaseHTTPMiddleware"
