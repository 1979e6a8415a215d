"""A hook of mkdocs: pages and files outside docs/ belong to the site too, and links lead to them as on a code host.

A program in cells (`# %%`) is a page as well, its `[markdown]` cells as text.
"""

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
            if "\n# %%" in (program := path.read_text()):
                files.append(File.generated(config, f"{name.removesuffix('.py')}.md", content=_as_page(program)))
    return files


def _as_page(program: str) -> str:
    title, *cells = re.split(r"^# %%", program, flags=re.MULTILINE)
    parts = ["# " + title.strip('"\n').partition("\n")[0].rstrip(".")]
    for cell in cells:
        kind, _, body = cell.partition("\n")
        if "[markdown]" in kind:
            parts.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE))
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links between docs/ and the rest of the repository to where both are in the site."""
    source = page.file.abs_src_path  # None where the page was made from a program
    folder = posixpath.dirname(page.file.src_uri) if source is None else str(Path(source).parent.relative_to(_ROOT))

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2])).removeprefix("docs/")
        return link[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") + link[3]

    return _LINK.sub(in_site, markdown)
