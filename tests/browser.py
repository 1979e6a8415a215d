"""A headless Chromium for the tests of the report: `python -m tests.browser` gets one without root.

The npm package @sparticuz/chromium carries the browser itself; browsers that Playwright would download are not used.
"""

import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "@sparticuz/chromium@147.0.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edco_rl" / "chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_UNPACK = """
const { createReadStream, createWriteStream } = require("fs");
const { createBrotliDecompress } = require("zlib");
for (const name of ["chromium", "al2023.tar"])
  createReadStream(`${process.argv[1]}/${name}.br`).pipe(createBrotliDecompress()).pipe(createWriteStream(name));
"""


def find() -> Path | None:
    """`CHROMIUM` of the environment, one of the system, or the one `install` has put into the cache."""
    named = os.environ.get("CHROMIUM")
    if named:
        return Path(named)
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found:
        return Path(found)
    return CACHE / "chromium" if (CACHE / "chromium").is_file() else None


def install() -> str:
    """Get Chromium into the cache, unless there is one; returns what was done, or why not."""
    if find() is not None:
        return f"Chromium: {find()}"
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "Chromium: none found, and no npm to get one with; the tests of the report's page will be skipped."
    with tempfile.TemporaryDirectory() as work:
        try:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=work, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            return f"Chromium: npm could not get {PACKAGE} ({error.stderr.decode()[-300:].strip()})."
        with tarfile.open(next(Path(work).glob("*.tgz"))) as package:
            package.extractall(work, filter="data")
        unpacked = Path(work) / "unpacked"
        unpacked.mkdir()
        subprocess.run(["node", "-e", _UNPACK, f"{work}/package/bin"], cwd=unpacked, check=True)
        with tarfile.open(unpacked / "al2023.tar") as libraries:  # what a machine without a desktop lacks
            libraries.extractall(unpacked, filter="data")
        (unpacked / "al2023.tar").unlink()
        (unpacked / "chromium").chmod(0o755)
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unpacked, CACHE)
    return f"Chromium: {CACHE / 'chromium'}"


@contextlib.contextmanager
def launch(executable: Path) -> Iterator:
    """A running browser, as Playwright has it."""
    from playwright.sync_api import sync_playwright

    libraries = executable.parent / "lib"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else dict(os.environ)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments, env=environment)
        yield browser
        browser.close()


if __name__ == "__main__":
    print(install())
