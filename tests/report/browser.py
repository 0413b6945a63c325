"""A page in headless Chromium, by its debugging protocol."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

# What can be read on the page, in the shadows of its elements, too.
WORDS = """(() => {
  const found = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent.trim());
    if (['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(node.tagName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.body);
  return found.filter(Boolean).join('\\n');
})()"""


class Tab:
    """Attributes:
    errors: what the page has complained of on its console.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.calls = 0
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=60)
            if message.get("id") == self.calls:
                assert "error" not in message, message
                return message["result"]
            self._listen(message)

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def words(self, when: Callable[[str], bool], seconds: float = 90) -> str:
        """All that can be read, once that holds of it."""
        deadline = time.monotonic() + seconds
        while True:
            words = str(await self.run(f"document.body ? {WORDS} : ''"))
            if when(words):
                return words
            assert time.monotonic() < deadline, words
            await asyncio.sleep(0.5)

    def _listen(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        complaint = (
            method == "Runtime.exceptionThrown"
            or (method == "Runtime.consoleAPICalled" and about["type"] == "error")
            or (method == "Log.entryAdded" and about["entry"]["level"] == "error")
        )
        if complaint:
            self.errors.append(json.dumps(about))


@asynccontextmanager
async def tab(profile: Path, *, width: int = 1400, height: int = 1000) -> AsyncIterator[Tab]:
    """An empty page.

    Args:
        profile: an empty directory.
    """
    assert BROWSER is not None
    process = subprocess.Popen(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}"),
            *(f"--window-size={width},{height}", "about:blank"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        said = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (said.exists() and "\n" in said.read_text()):
            assert time.monotonic() < deadline, "the browser does not start"
            await asyncio.sleep(0.1)
        address = f"http://127.0.0.1:{said.read_text().split()[0]}/json"
        async with aiohttp.ClientSession() as client:
            async with client.get(address) as answer:
                targets = await answer.json(content_type=None)
            page = next(target for target in targets if target["type"] == "page")
            async with client.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await opened.call(f"{domain}.enable")
                yield opened
    finally:
        process.kill()
        process.wait()
