"""Wheels without a network: of this checkout in any version, and of what is installed here."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "notifier")


def pack_what_is_needed(directory: Path) -> None:
    """Make wheels of all that the program and the making of its own wheel need."""
    for one in {
        one.name: one for name in ("pixverse-notifier", "hatchling") for one in _needed(name)
    }.values():
        if one.name != "pixverse-notifier":
            _pack(one, directory)


def _needed(name: str, known: set[str] | None = None) -> Iterator[Distribution]:
    """Return a distribution and all that it needs without any extras."""
    known = set() if known is None else known
    if name.lower() in known:
        return
    known.add(name.lower())
    found = distribution(name)
    yield found
    for requirement in map(Requirement, found.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _needed(requirement.name, known)


def _pack(found: Distribution, directory: Path) -> None:
    """Put the files of an installed distribution together again; pip makes the rest anew."""
    tag = re.search(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    assert tag is not None, found.name
    name = found.name.replace("-", "_")
    with zipfile.ZipFile(directory / f"{name}-{found.version}-{tag[1]}.whl", "w") as wheel:
        for file in found.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(str(file.locate()), str(file))


def build(directory: Path, version: str, *, change: Callable[[Path], None] = lambda _package: None) -> Path:
    """Build the wheel of this checkout as another version, its package changed on request."""
    source = directory / f"source-{version}"
    for name in _SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, source / name)
    about = source / "notifier" / "__init__.py"
    about.write_text(re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', about.read_text()))
    change(source / "notifier")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    return directory / f"pixverse_notifier-{version}-py3-none-any.whl"
