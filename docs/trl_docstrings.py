"""An extension of griffe, which reads docstrings for the API pages: those of this package are written as TRL's are."""

import ast
import re
from typing import Any

import griffe

import edco_rl

# "name (`type`, *optional*, defaults to `1`):", or several of them, and the indented lines that say what they are.
_NAME = r"\*{0,2}\w+(?: \([^:]*?\))?"
_ARGUMENTS = re.compile(rf"^( +)({_NAME}(?:,\s+{_NAME})*):\n((?:\1 +\S.*(?:\n|\Z))+)", re.MULTILINE)
_TYPE = re.compile(r" \([^)]*`[^:]*?\)(?=,|$)")
_RESULT = re.compile(r"^(\s+)`([^`\n]+)`:(?= |$)", re.MULTILINE)
_REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?!\[)")


class TRLDocstrings(griffe.Extension):
    """Leaves types to the signatures, and turns [`Name`] into a link where the name is of the public API.

    What a field of settings is for stands in its metadata, for the command line's help: that is its docstring.
    """

    def __init__(self) -> None:
        self._paths = {name: f"edco_rl.{module}.{name}" for name, module in edco_rl._MODULES.items()}

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a class, function or attribute."""
        if obj.docstring is not None:
            text = _ARGUMENTS.sub(_one_by_one, obj.docstring.value)
            text = _RESULT.sub(r"\1\2:", text)
            obj.docstring.value = _REFERENCE.sub(self._link, text)

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        """Take the docstring of a field from its metadata, and show its default alone."""
        if not isinstance(attr.value, griffe.ExprCall) or not isinstance(node, ast.AnnAssign):
            return
        assert isinstance(node.value, ast.Call)
        given = {word.arg: word.value for word in node.value.keywords}
        if isinstance(metadata := given.get("metadata"), ast.Dict):
            text = ast.literal_eval(metadata)["help"]
            attr.docstring = griffe.Docstring(text.replace("<", "&lt;"), parent=attr)
            if given.keys() == {"default", "metadata"}:
                attr.value = next(word.value for word in attr.value.arguments if word.name == "default")

    def _link(self, found: re.Match[str]) -> str:
        path = found[1].split(".")
        at = next((i for i, part in enumerate(path) if part in self._paths), None)
        if at is None:
            return f"`{found[1]}`"
        return f"[`{'.'.join(path[at:])}`][{'.'.join([self._paths[path[at]], *path[at + 1 :]])}]"


def _one_by_one(found: re.Match[str]) -> str:
    """An entry for each argument, without its type."""
    indent, names, description = found.groups()
    return "".join(f"{indent}{name}:\n{description}" for name in _TYPE.sub("", " ".join(names.split())).split(", "))
