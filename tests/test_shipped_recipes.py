"""The recipes of the package: listed, printed and copied by name."""

from pathlib import Path

import pytest

from edco_rl import ConfigurationError
from edco_rl.cli import main
from edco_rl.shipped_recipes import read_recipe, recipe_names

FOLDER = Path(__file__).parents[1] / "recipes"


def test_every_recipe_is_listed_with_its_first_line(capsys):
    main(["recipes"])
    out = capsys.readouterr().out
    files = {path for path in FOLDER.rglob("*.yaml") if path.parent.name != "accelerate_configs"}
    assert recipe_names() == sorted(path.relative_to(FOLDER).as_posix().removesuffix(".yaml") for path in files)
    assert all(name in out for name in recipe_names())
    assert "EDCO-GRPO on a small language model" in out


def test_a_recipe_is_printed_and_copied(capsys, tmp_path):
    text = (FOLDER / "law" / "grpo_edco.yaml").read_text()
    main(["recipes", "law/grpo_edco"])
    assert capsys.readouterr().out == text
    main(["recipes", "law/grpo_edco.yaml", "--output", str(tmp_path / "mine.yaml")])
    assert (tmp_path / "mine.yaml").read_text() == text


@pytest.mark.parametrize("arguments", [["law/grpo_edco"], []])
def test_nothing_is_overwritten_and_a_copy_needs_a_name(arguments, capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        main(["recipes", *arguments, "--output", str(path)])
    assert "--output" in capsys.readouterr().err and path.read_text() == "mine"


def test_another_name_is_answered_with_what_is_like_it():
    with pytest.raises(ConfigurationError, match=r"no recipe 'grpo_edco'\. Did you mean .*quickstart/grpo_edco"):
        read_recipe("grpo_edco")
    with pytest.raises(ConfigurationError, match="edco-rl recipes lists them"):
        read_recipe("../pyproject")
