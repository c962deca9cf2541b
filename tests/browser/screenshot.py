"""Pictures of the status page: ``python -m tests.browser.screenshot`` makes the one that README shows.

With a directory it puts all scenes there, in light and dark, wide and narrow.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser

from tests.browser.chromium import chromium
from tests.browser.scenes import SCENES, shown

PICTURE = Path(__file__).with_name("status.png")
WIDTHS = (1280, 390)


async def take(browser: Browser, url: str, file: Path, *, width: int, scheme: str, height: int = 0) -> None:
    """Take a picture of a page, of all of it or down to some height."""
    context = await browser.new_context(
        viewport={"width": width, "height": height or 844},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=True,
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector("#link[data-state=live]")
    await page.screenshot(path=file, full_page=not height)
    await context.close()


async def all_scenes(directory: Path) -> None:
    """Take pictures of everything."""
    async with chromium() as browser:
        for name, build in SCENES.items():
            with tempfile.TemporaryDirectory() as state:
                async with shown(Path(state), build) as scene:
                    for width in WIDTHS:
                        for scheme in ("light", "dark"):
                            file = directory / f"{name}-{width}-{scheme}.png"
                            await take(browser, scene.url, file, width=width, scheme=scheme)


async def readme() -> None:
    """Take the picture of README."""
    async with chromium() as browser:
        with tempfile.TemporaryDirectory() as state:
            async with shown(Path(state), SCENES["typical"]) as scene:
                await take(browser, scene.url, PICTURE, width=1100, scheme="light", height=980)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    asyncio.run(all_scenes(Path(sys.argv[1])) if len(sys.argv) > 1 else readme())
