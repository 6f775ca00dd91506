"""A real headless Chromium, driven by the DevTools protocol over a WebSocket."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import websockets

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)

PATIENCE_SECONDS = 20.0
"""How long something may take that happens on a busy machine."""

# A promise that is kept as soon as the page shows something: no polling from outside.
UNTIL = """
new Promise((resolve) => {
  const ask = () => { try { return (%s); } catch { return null; } };
  const first = ask();
  if (first) return resolve(first);
  const watch = new MutationObserver(() => {
    const found = ask();
    if (found) { watch.disconnect(); resolve(found); }
  });
  watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
})
"""


def find_chromium() -> str | None:
    """The program: `CHROMIUM` in the environment, or on PATH."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class DevToolsError(Exception):
    """What the browser said to a command, or an exception of the page's own."""


class Browser:
    """One connection to a browser; pages are sessions in it.

    Args:
        connection: The WebSocket of the browser itself.
    """

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def listen(self) -> None:
        """Take what the browser says, until the connection ends."""
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self._connection:
                message = json.loads(text)
                if "id" in message:
                    waiting = self._answers.pop(message["id"])
                    if not waiting.done():
                        waiting.set_result(message)
                elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                    page.heard(message["method"], message["params"])

    # What is sent and answered differs by the command.
    async def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:  # JSON
        """Send a command and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await self._answers[number]
        if "error" in answer:
            raise DevToolsError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> "Page":
        """A new page, in a profile of its own, that has loaded `url`."""
        context = await self.call("Target.createBrowserContext")
        context_id = context["browserContextId"]
        target = await self.call(
            "Target.createTarget", url="about:blank", browserContextId=context_id
        )
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"], context_id)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.navigate(url)
        return page


class Page:
    """One page.

    Attributes:
        errors: Exceptions of the page and what its policy forbade.
        requests: The addresses that it asked for.
    """

    def __init__(self, browser: Browser, session: str, context_id: str) -> None:
        self._browser = browser
        self._session = session
        self._context_id = context_id
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        self.requests: list[str] = []

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Take an event of the browser."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", str(details)))
            case "Log.entryAdded" if params["entry"]["source"] != "network":
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:  # JSON  as in Browser
        """Send a command to the page."""
        return await self._browser.call(method, self._session, **params)

    async def navigate(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise DevToolsError(f"{url}: {answer['errorText']}")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._loaded.wait()

    async def ask(self, expression: str) -> Any:  # JSON  whatever the expression gives
        """The value of a JavaScript expression; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise DevToolsError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:  # JSON  the same
        """Wait until a JavaScript expression is true of the document; return its value."""
        try:
            return await self.ask(UNTIL % expression)
        except TimeoutError:
            text = await self.ask("document.body.innerText")
            raise TimeoutError(f"the page never came to {expression}; it shows:\n{text}") from None

    async def text(self, selector: str) -> str:
        """The text of the first element that fits."""
        return str(await self.ask(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def emulate(self, *, width: int = 1040, height: int = 900, **media: str) -> None:
        """The size of the window, and media features such as `prefers_color_scheme="dark"`."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def press(self, key: str, code: int) -> None:
        """Press and release a key that types nothing, such as `press("Tab", 9)`."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def accessible(self) -> list[dict[str, Any]]:
        """What a screen reader is given: the nodes of the accessibility tree that it hears."""
        nodes = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    async def screenshot(self, path: Path) -> None:
        """A picture of the whole page, as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def close(self) -> None:
        """Close it, and forget its profile."""
        await self._browser.call("Target.disposeBrowserContext", browserContextId=self._context_id)


@asynccontextmanager
async def chromium(program: str) -> AsyncGenerator[Browser]:
    """A browser with an empty profile; it is gone when the block ends."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    process = _start(program, profile)
    try:
        address = await _address(process, profile)
        async with websockets.connect(
            address, proxy=None, max_size=None, ping_interval=None
        ) as connection:
            browser = Browser(connection)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                listening.cancel()
    finally:
        await asyncio.to_thread(_end, process)
        shutil.rmtree(profile, ignore_errors=True)


def _start(program: str, profile: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that all its processes can be ended together
    )


async def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """The browser writes where it listens into its profile, once it does so."""
    written = anyio.Path(profile) / "DevToolsActivePort"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while process.poll() is None:  # another process has no event
            with contextlib.suppress(OSError, ValueError):
                port, path = (await written.read_text()).splitlines()
                return f"ws://127.0.0.1:{port}{path}"
            await asyncio.sleep(0.02)
    raise DevToolsError(f"chromium ended with status {process.returncode} before it listened")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)
