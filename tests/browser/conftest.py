"""One browser for all tests, and readers in it who notice whatever a page should not do."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.chromium import chromium
from tests.support.servers import PATIENCE


@dataclass(slots=True)
class Reader:
    """Somebody with a browser. What the page asked for and complained about is remembered."""

    browser: Browser
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def opens(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        has_scripts: bool = True,
        is_frozen: bool = False,
    ) -> Page:
        """Open a page; with `is_frozen` its timers stand still until they are moved by hand."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=has_scripts
        )
        self.contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        page = await context.new_page()
        self._watch(page)
        if is_frozen:
            await page.clock.install(time=0)
            await page.clock.pause_at(1)
        await page.goto(url)
        return page

    def _watch(self, page: Page) -> None:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))

    def foreign(self, url: str) -> list[str]:
        """Return what was asked of others than the server of a page."""
        return [one for one in self.requests if not one.startswith(f"{url}/")]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for context in self.contexts:
            await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, started once."""
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def reader(browser: Browser) -> AsyncIterator[Reader]:
    """Somebody who opens pages."""
    async with Reader(browser) as reader:
        yield reader
