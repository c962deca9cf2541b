"""Debian's Chromium, driven by playwright, which brings no browser of its own."""

import contextlib
import shutil
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

from tests.support.machine import needs

ARGUMENTS = (
    "--no-sandbox",  # root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run the browser, without a window and with a new profile, for the length of a block."""
    needs("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=[*ARGUMENTS]
        )
        try:
            yield browser
        finally:
            await browser.close()
