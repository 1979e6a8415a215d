"""The fields of dataclasses: name, type, default and help. Those of TRL's are read from its source, not imported.

Importing a trainer's settings imports torch, which takes ten seconds; reading their source takes a tenth of one. That
is soon enough to tell a wrong key, to list flags, and to complete them.
"""

import ast
import builtins
import dataclasses
import importlib.util
import pkgutil
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .config.checks import checked, kind, parts
from .config.trl_ranges import narrowed

# Modules that import torch; names from all others are imported.
_READ = ("trl.", "transformers.", "accelerate.", "edco_rl.trainers.")


@dataclass(frozen=True)
class Field:
    """A field of a dataclass.

    Args:
        name (`str`):
            Its name.
        hint (`Any`):
            Its type. An enumeration of texts is the `Literal` of these.
        default (`Any`):
            Its default; `dataclasses.MISSING` where there is none, or it is not known before it is imported.
        help (`str`):
            What it is, as its metadata say.
    """

    name: str
    hint: Any
    default: Any
    help: str


def fields_of(source: type | str) -> tuple[Field, ...]:
    """The fields that the constructor of a dataclass takes.

    Args:
        source (`type` or `str`):
            The dataclass, or the import path of one (`package.module:Class`) that is read without being imported.
    """
    if isinstance(source, str):
        module, _, name = source.partition(":")
        return tuple(_declared(module, name).values())
    hints = typing.get_type_hints(source, include_extras=True)
    return tuple(
        Field(
            field.name,
            hints[field.name],
            field.default if field.default_factory is dataclasses.MISSING else field.default_factory(),
            field.metadata.get("help", ""),
        )
        for field in dataclasses.fields(source)
        if field.init
    )


def check_declared(config: Any) -> None:
    """Check the fields of settings that are read by [`fields_of`], TRL's among them, before TRL completes them.

    Raises:
        ConfigurationError: One has a value it cannot have.
    """
    for field in _fields_read(config):
        setattr(config, field.name, checked(field.name, field.hint, getattr(config, field.name)))


def check_numbers(config: Any) -> None:
    """Check the numbers of settings of TRL's that are complete: what else they hold, TRL has replaced.

    Raises:
        ConfigurationError: One is out of its range, or not finite.
    """
    for field in _fields_read(config):
        if {kind(part) for part in parts(field.hint)} <= {int, float, types.NoneType}:
            checked(field.name, field.hint, getattr(config, field.name))


def _fields_read(config: Any) -> tuple[Field, ...]:
    of = next(one for one in type(config).__mro__ if one.__module__.startswith(_READ))
    return fields_of(f"{of.__module__}:{of.__qualname__}")


@cache
def _declared(module: str, name: str) -> dict[str, Field]:
    found = _find(module, name)
    if found is None:
        raise LookupError(f"{module} has no class {name}.")
    module, node = found
    fields: dict[str, Field] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and _find(module, base.id) is not None:
            fields |= _declared(module, base.id)
    names = _Names(module)
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        hint = names.hint(line.annotation)
        given = _arguments(line.value)
        if typing.get_origin(hint) is typing.ClassVar or _literal(given.get("init")) is False:
            fields.pop(line.target.id, None)
            continue
        metadata = given.get("metadata")
        if choices := _literal(_item(metadata, "choices")):
            hint = Literal[tuple(choices)] | None if types.NoneType in parts(hint) else Literal[tuple(choices)]
        help_text = _literal(_item(metadata, "help")) or ""
        fields[line.target.id] = Field(line.target.id, narrowed(line.target.id, hint), _default(given), help_text)
    return fields


def _arguments(value: ast.expr | None) -> dict[str, ast.expr]:
    """Arguments of `field(...)`; a plain value is the default."""
    if isinstance(value, ast.Call):
        return {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg is not None}
    return {} if value is None else {"default": value}


def _default(given: dict[str, ast.expr]) -> Any:
    factory = given.get("default_factory")
    if isinstance(factory, ast.Lambda):
        factory = factory.body
    elif isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
        return {"list": [], "dict": {}}[factory.id]
    return _literal(given.get("default", factory), dataclasses.MISSING)


def _item(mapping: ast.expr | None, key: str) -> ast.expr | None:
    if not isinstance(mapping, ast.Dict):
        return None
    return next(
        (value for name, value in zip(mapping.keys, mapping.values, strict=True) if _literal(name) == key), None
    )


def _literal(node: ast.expr | None, otherwise: Any = None) -> Any:
    try:
        return otherwise if node is None else ast.literal_eval(node)
    except ValueError:
        return otherwise


class _Names(dict[str, Any]):
    """Names of a module as types, looked up when they are met in an annotation."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module

    def hint(self, annotation: ast.expr) -> Any:
        """The type an annotation stands for."""
        return _without_text_beside_choices(eval(ast.unparse(annotation), {}, self))

    def __missing__(self, name: str) -> Any:
        found = _find(self.module, name)
        if found is not None:
            return _choices(found[1])
        for module, original in _imports(self.module).get(name, ()):
            if not f"{module}.".startswith(_READ):
                return pkgutil.resolve_name(f"{module}:{original}")
        return getattr(builtins, name, Any)


def _choices(node: ast.ClassDef) -> Any:
    """The texts of an enumeration; any other class is not known here."""
    values = [_literal(line.value) for line in node.body if isinstance(line, ast.Assign)]
    texts = tuple(value for value in values if isinstance(value, str))
    return Literal[texts] if texts and any("Enum" in ast.unparse(base) for base in node.bases) else Any


def _without_text_beside_choices(hint: Any) -> Any:
    """Of an enumeration or text, which stands for it, the enumeration."""
    alternatives = parts(hint)
    others = [part for part in alternatives if part is not str]
    if 0 < len(others) < len(alternatives) and all(kind(part) is Literal and _texts(part) for part in others):
        return typing.Union[tuple(others)]  # noqa: UP007
    return hint


def _texts(hint: Any) -> bool:
    return all(isinstance(value, str) for value in typing.get_args(hint))


@cache
def _find(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The class of that name and the module it is in, imports of it followed."""
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    for other, original in _imports(module).get(name, ()):
        if f"{other}.".startswith(_READ) and (found := _find(other, original)) is not None:
            return found
    return None


@cache
def _imports(module: str) -> dict[str, list[tuple[str, str]]]:
    """Where the names that a module imports come from: modules, and what they are called there."""
    package = module.split(".") if _path(module).name == "__init__.py" else module.split(".")[:-1]
    found: dict[str, list[tuple[str, str]]] = {}
    for node in _statements(_source(module).body):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, []).append((source, alias.name))
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under conditions too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            for block in (node.body, node.orelse, *(one.body for one in getattr(node, "handlers", ()))):
                yield from _statements(block)


@cache
def _source(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


@cache
def _path(module: str) -> Path:
    root, *rest = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {root!r}", name=root)
    place = Path(spec.origin).parent.joinpath(*rest)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
