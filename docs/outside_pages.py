"""A hook of mkdocs: pages and files outside docs/ belong to the site too, and links lead to them as on a code host."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "recipes/**/*.md", "recipes/**/*.py", "recipes/**/*.yaml")
_LINK = re.compile(r"(\]\()([^)#:]+)((?:#[^)]*)?\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Add what is outside docs/ under its path in the repository."""
    for pattern in _OUTSIDE:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links between docs/ and the rest of the repository to where both are in the site."""
    outside = Path(page.file.abs_src_path).relative_to(_ROOT)
    folder = outside.parent.as_posix()

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2])).removeprefix("docs/")
        return link[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") + link[3]

    return _LINK.sub(in_site, markdown)
