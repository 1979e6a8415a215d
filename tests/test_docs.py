"""What the README and the other pages name exists: commands, flags, settings, files, tests and links. Code runs."""

import pkgutil
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edco_rl
from edco_rl import EstimatorConfig, Outcome, Pool, StrategyContext, TokenLogprobs
from edco_rl.cli import COMMANDS, main
from edco_rl.curriculum.signals import SIGNALS
from edco_rl.entropy import make_estimator
from edco_rl.methods import METHODS
from edco_rl.rewards import get_reward

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "recipes" / "README.md"]


def pages(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))(test)


def commands(text):
    """Command lines of a page, as words: those of its shell blocks, and those within a sentence."""
    lines = re.findall(r"`((?:edco-rl|pytest|python -m|make) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        line = ""
        for part in block.replace("\\\n", " ").splitlines():
            line += part + "\n"
            if line.count("'") % 2 == 0:  # a quoted value can go on over lines
                lines.append(line)
                line = ""
    for line in lines:
        words = shlex.split(re.sub(r"^\s*(\w+=\S+ )*", "", line), comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield [word.strip("[]") for word in words[:end]]
            words = words[end + 1 :]


@pytest.fixture(scope="module")
def flags_of():
    """Flags of a command, as its help lists them."""
    known = {}

    def flags(capsys, *command):
        if command not in known:
            with pytest.raises(SystemExit):
                main([*command, "--help-all"])
            known[command] = set(re.findall(r"--[\w-]+", capsys.readouterr().out)) | {"--config"}
        return known[command]

    return flags


def check_edco_rl(words, flags_of, capsys):
    assert words[0] in COMMANDS
    command = words[: 2 if words[0] == "train" else 1]
    if command[1:]:
        if command[1] == "METHOD":  # any of them
            return
        assert command[1] in METHODS
    elif words[0] == "train":
        return
    given = {word for word in words if word.startswith("--")}
    assert given <= flags_of(capsys, *command), f"edco-rl {' '.join(words)}"


def check_pytest(words):
    paths, rest = [], iter(words)
    for word in rest:
        if word == "-k":
            keywords = set(re.findall(r"\w+", next(rest))) - {"or", "and", "not"}
            tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
            assert all(keyword in tests for keyword in keywords), keywords
        elif word in ("-m", "--numprocesses"):
            next(rest)
        elif not word.startswith("-"):
            paths.append(word)
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


@pages
def test_every_command_of_a_page_exists(page, flags_of, capsys):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page.read_text()):
        program = Path(words[0]).name if words else ""
        if "edco_rl" in words and "-m" in words:  # accelerate launch, or python -m
            check_edco_rl(words[words.index("edco_rl") + 1 :], flags_of, capsys)
        elif program == "edco-rl":
            check_edco_rl(words[1:], flags_of, capsys)
        elif program == "pytest":
            check_pytest(words[1:])
        elif program == "python" and words[1:2] == ["-m"]:
            assert find_spec(words[2]), words
        elif program == "make":
            assert set(words[1:]) <= targets, words


@pages
def test_every_file_of_a_page_exists(page):
    text = page.read_text()
    linked = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in linked if not (page.parent / link).exists()] == []
    named = re.findall(r"(?:recipes|docs|tests|edco_rl|docker)/[\w./-]*\.(?:yaml|md|py|svg|cpu|cuda)\b", text)
    assert [path for path in named if not (ROOT / path).exists() and not (page.parent / path).exists()] == []


@pages
def test_every_setting_and_name_of_a_page_exists(page, flags_of, capsys):
    text = page.read_text()
    settings = {flag for method in METHODS for flag in flags_of(capsys, "train", method)}
    for table in re.findall(r"^\| field \|.*\n(?:\|.*\n)+", text, re.MULTILINE):
        fields = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()))
        assert [field for field in fields if f"--{field}" not in settings] == []
    for name in re.findall(r"\bedco_rl\.([A-Za-z]\w*)", text) + re.findall(r"`(Curriculum\w+)`", text):
        assert hasattr(edco_rl, name) or find_spec(f"edco_rl.{name}"), name


def test_what_a_user_writes_in_the_examples_is_found_by_its_import_path(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "extending.md").read_text()
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(code)
    named = set(re.findall(r"\b(my_(?!package)\w+:\w+)", text))
    assert len(named) >= 5
    for path in sorted(named):
        assert callable(pkgutil.resolve_name(path))
    assert get_reward("my_reward:right_number")(completions=["31", "7"], answer=["31", "8"]) == [1.0, 0.0]
    score = make_estimator(EstimatorConfig(estimator="my_estimator:FirstToken"))
    logprobs = np.log([0.25])
    assert score.score([TokenLogprobs(logprobs, logprobs[:, None])], 8).value == pytest.approx(np.log(4))
    outcome = Outcome(index=1, version=0, rewards=(0.0, 1.0), truncated=(True, False))
    signal = SIGNALS.make("my_signal:CutOff", StrategyContext(Pool(["a", "b"]), size=1, seed=0))
    assert signal.value(outcome) == -1.0
    assert issubclass(pkgutil.resolve_name("my_trainer:CurriculumDPOTrainer"), edco_rl.CurriculumMixin)


def test_the_script_of_the_readme_trains(tiny_model_path, tmp_path, monkeypatch):
    """As it is printed, but for the model and the engine, which tests/e2e covers."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for printed, small in (
        ("~/.cache/edco_rl/SmolLM2-135M-Instruct", tiny_model_path),
        ("engine=EngineConfig()", "engine=None"),
        ("max_steps=20", "max_steps=2"),
    ):
        assert code.count(printed) == 1
        code = code.replace(printed, small)
    names = {}
    exec(code, names)
    assert names["trainer"].state.global_step == 2


def test_the_readme_counts_the_strategies_right():
    text = " ".join((ROOT / "README.md").read_text().split())
    count = len(edco_rl.available_strategies())
    assert re.findall(r"All (\d+) strategies", text) == [str(count)]
    assert re.findall(r"beside (\d+) other curricula", text) == [str(count - 2)], "EDCO and POCL are named before"
