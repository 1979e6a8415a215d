"""Settings by name from a YAML file, with the line each of them is on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigurationError


@dataclass
class Settings:
    """Settings by name.

    Args:
        values (`dict[str, Any]`):
            The settings.
        lines (`dict[str, int]`, *optional*):
            Lines of those of a file, counted from 1.
        name (`str`, *optional*):
            The file or what else they are from, for messages.
    """

    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    name: str = ""

    def place(self, setting: str) -> str:
        """Where a setting is from, for messages."""
        return f"{self.name}, line {self.lines[setting]}" if setting in self.lines else self.name


def read_yaml(path: str | Path, what: str) -> Settings:
    """Read a file.

    Args:
        path (`str` or `Path`):
            The file.
        what (`str`):
            The setting that names it.

    Raises:
        ConfigurationError: There is no such file, it is no YAML, or something else is in it; the message is one line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"{what} {path}: there is no such file.")
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        loader.name = str(path)
        node = loader.get_single_node()
        for first, key in _repeated(node, []):
            raise yaml.MarkedYAMLError(
                problem=f"{key.value!r} is there twice, first in line {first + 1}", problem_mark=key.start_mark
            )
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None  # of all but the emitter's errors
        raise ConfigurationError(f"{path}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigurationError(f"{what} {path}: expected settings by name.")
    assert isinstance(node, yaml.MappingNode)
    return Settings(values, {key.value: key.start_mark.line + 1 for key, _ in node.value}, str(path))


def _repeated(node: yaml.Node | None, above: list[int]) -> Iterator[tuple[int, yaml.ScalarNode]]:
    """Keys that a mapping has twice, of which YAML would keep the last, with the line of the first."""
    if node is not None and id(node) in above:
        raise yaml.MarkedYAMLError(problem="an anchor that holds itself", problem_mark=node.start_mark)
    within = [*above, id(node)]
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _repeated(one, within)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                yield seen[key.value], key
            seen[key.value if isinstance(key, yaml.ScalarNode) else id(key)] = key.start_mark.line
            yield from _repeated(value, within)
