"""The recipes that come with the package: listed, printed, and copied by name."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .errors import ConfigurationError

FOLDER = Path(__file__).parent / "recipes"
"""In a clone a link to the folder at its top."""

_NOT_RECIPES = "accelerate_configs"


def recipe_names() -> list[str]:
    """Names of all recipes, as `quickstart/grpo_edco`."""
    files = (path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml"))
    return sorted(path.as_posix() for path in files if path.parts[0] != _NOT_RECIPES)


def read_recipe(name: str) -> str:
    """The text of a recipe.

    Raises:
        ConfigurationError: There is none of that name.
    """
    name = name.removesuffix(".yaml")
    if name not in recipe_names():
        last = name.rpartition("/")[2]
        alike = [known for known in recipe_names() if last in known]
        advice = f"Did you mean {', '.join(alike)}?" if alike else "edco-rl recipes lists them."
        raise ConfigurationError(f"There is no recipe {name!r}. {advice}")
    return (FOLDER / f"{name}.yaml").read_text()


def run_recipes(prog: str, arguments: list[str]) -> None:
    """List the recipes, or print or copy one.

    Raises:
        ConfigurationError: There is no such recipe, or there is a file already where it should go.
    """
    parser = argparse.ArgumentParser(prog=prog, description="List the recipes, or print or copy one.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="recipe to print, as quickstart/grpo_edco")
    parser.add_argument("--output", type=Path, metavar="FILE", help="copy it to this file instead")
    chosen = parser.parse_args(arguments)
    if chosen.name is None:
        if chosen.output is not None:
            raise ConfigurationError("--output needs the name of a recipe before it.")
        _print_list()
        return
    text = read_recipe(chosen.name)
    if chosen.output is None:
        print(text, end="")
        return
    try:
        with chosen.output.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(f"--output {chosen.output}: there is such a file already.") from None
    except OSError as error:
        raise ConfigurationError(f"--output {chosen.output}: {error.strerror}.") from error


def _print_list() -> None:
    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for name in recipe_names():
        first = read_recipe(name).partition("\n")[0]
        table.add_row(name, first.removeprefix("#").strip())
    Console().print(table)
