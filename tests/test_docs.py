"""What the README and the other pages name exists: commands, flags, settings, files, tests and links. Code runs."""

import contextlib
import doctest
import io
import itertools
import os
import pkgutil
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

import edco_rl
from edco_rl import EstimatorConfig, Outcome, Pool, StrategyContext, TokenLogprobs
from edco_rl.cli import COMMANDS, main
from edco_rl.curriculum.signals import SIGNALS
from edco_rl.entropy import make_estimator
from edco_rl.methods import METHODS
from edco_rl.rewards import get_reward

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES += sorted(ROOT.glob("recipes/**/*.md"))
# `make` prepares the model; the others are hub data sets and models, and tasks that are generated.
MADE_ELSEWHERE = re.compile(r"~/\.cache/edco_rl/\S+|netop/TeleQnA|Qwen/[\w.-]+|reasoning_gym:\w+")
INPUTS = re.compile(r"--(config|recipe|config_file|\w*dataset_name|\w*model_name_or_path|teacher_model)")


def pages(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))(test)


def blocks(text, language):
    """The code blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text):
    """Command lines of a page, as words: those of its shell blocks, and those within a sentence."""
    within = re.findall(
        r"`((?:edco-rl|pytest|python -m|make) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    yield from as_words(within)
    yield from block_commands(text)


def block_commands(text):
    """Command lines of the shell blocks of a page, as words."""
    lines = []
    for block in blocks(text, "bash"):
        line = ""
        for part in block.replace("\\\n", " ").splitlines():
            line += part + "\n"
            if line.count("'") % 2 == 0:  # a quoted value can go on over lines
                lines.append(line)
                line = ""
        assert not line, f"a quote is open in {block}"
    yield from as_words(lines)


def as_words(lines):
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
    if words[0] == "recipes":  # has no settings, and is run below
        return
    command = words[: 2 if words[0] == "train" else 1]
    if command[1:]:
        if command[1] == "METHOD":  # any of them
            return
        assert command[1] in METHODS
    elif words[0] == "train":
        return
    given = {
        word.replace("-", "_").replace("__", "--", 1) for word in words if word.startswith("--")
    }  # either will do
    assert given - {"--help_all"} <= flags_of(capsys, *command), f"edco-rl {' '.join(words)}"


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
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
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


class Reached(BaseException):
    """What a command does once its command line is read; no error that the command line would turn into a message."""


@pytest.fixture
def read_only(monkeypatch, tmp_path, model_path):
    """Commands end where their work would begin, in a folder with the repository's files and the runs of its pages."""
    resolve = pkgutil.resolve_name

    def reached(*arguments):
        raise Reached

    works = re.compile(r".*:(?:run_(?!recipes)\w+|dry_run)")  # recipes are copied, for the commands that follow
    monkeypatch.setattr(pkgutil, "resolve_name", lambda path: reached if works.fullmatch(path) else resolve(path))
    for path in (
        "edco_rl.benchmark.matrix.run_benchmark",
        "edco_rl.report.run_report",
        "edco_rl.runs.compare.train_and_compare",
        "edco_rl.engine.server.VLLMServer.__init__",
    ):
        monkeypatch.setattr(path, reached)
    monkeypatch.chdir(tmp_path)
    for name in ("recipes", "docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for folder in (
        made for made in outputs() if not made.endswith(".yaml")
    ):  # as a training run leaves it, to those who look for a model there
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "config.json").write_text("{}")
    home = tmp_path / "home" / ".cache" / "edco_rl"
    home.mkdir(parents=True)
    (home / Path(model_path).name).symlink_to(model_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text in (path.read_text() for path in ROOT.glob("recipes/benchmark/*.yaml")):  # what is made beforehand
        for rows in map(os.path.expanduser, re.findall(r"(?:runs|~)/\S+\.jsonl", text)):
            (tmp_path / rows).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / rows).write_text("{}\n")
    ladder = [home / "ladder" / name for name in ("reasoner", "teacher", "generalist", "specialist", "student")]
    for model in (home / "map-model", *ladder, tmp_path / "runs" / "second_model" / "gemma"):
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text("{}")


def outputs():
    """Folders and files that recipes and commands of the pages make."""
    recipes = (yaml.safe_load(path.read_text()) for path in ROOT.glob("recipes/**/*.yaml"))
    made = {recipe["output_dir"] for recipe in recipes if "output_dir" in recipe} | {"runs/benchmark"}
    for page in PAGES:
        made |= set(re.findall(r"--output(?:_dir)? (\S+)", page.read_text()))
    return made


@pages
def test_every_command_of_a_shell_block_is_read_and_its_files_exist(page, read_only):
    """As the command line reads it, recipe and all, up to where its work would begin."""
    for words in block_commands(page.read_text()):
        given = dict(itertools.pairwise(words))
        named = [value for flag, value in given.items() if INPUTS.fullmatch(flag)]
        named += [word for word in words[1:] if re.fullmatch(r"[\w./-]+\.(?:py|jsonl|gz|yaml|parquet)", word)]
        made = outputs()
        missing = [it for it in named if not MADE_ELSEWHERE.fullmatch(it) and it not in made and not Path(it).exists()]
        assert missing == [], words
        name = Path(words[0]).name if words else ""
        start = words.index("edco_rl") + 1 if "edco_rl" in words else 1 if name == "edco-rl" else None
        if start is not None:
            with contextlib.nullcontext() if words[start] == "recipes" else pytest.raises(Reached):
                main([str(Path(word).expanduser()) if word.startswith("~") else word for word in words[start:]])


@pages
def test_every_block_of_a_page_is_of_a_kind_that_is_tested(page):
    text = page.read_text()
    assert set(re.findall(r"^```(\w*)$", text, re.MULTILINE)) <= {"", "bash", "diff", "mermaid", "python"}
    for code in blocks(text, "python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page.name, "exec"), {"__name__": "block"})
        assert printed.getvalue().splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)


def test_the_layout_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Layout\n")[2]
    named = []
    layout = re.search(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE).group(1)
    for inner, names in re.findall(r"^(  |)(\S.*?)(?:   *\S|$)", layout, re.MULTILINE):
        named += [ROOT / ("edco_rl" if inner else "") / name for name in names.split(", ")]
    assert len(named) > 20 and [path for path in named if not path.exists()] == []


def test_the_api_pages_have_every_public_name_once():
    shown = [
        name for page in ROOT.glob("docs/api/*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]
    assert sorted(shown) == sorted(f"edco_rl.{module}.{name}" for name, module in edco_rl._MODULES.items())


def test_the_examples_of_public_docstrings_are_python():
    examples = []
    for name in edco_rl.__all__:
        public = getattr(edco_rl, name)
        if isinstance(public, type):
            examples += doctest.DocTestParser().get_examples((public.__doc__ or "").replace("```", ""))
    assert len(examples) > 10
    for example in examples:
        compile(example.source, "docstring", "exec")


def test_the_hooks_of_pre_commit_are_the_checks_of_make():
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    checks = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    assert len(hooks) == 3
    for hook in hooks:
        assert f"\t{hook['entry']}".replace(" --fix", "") in checks, hook


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


def test_the_readme_counts_the_strategies_right():
    text = " ".join((ROOT / "README.md").read_text().split())
    count = len(edco_rl.available_strategies())
    assert re.findall(r"All (\d+) strategies", text) == [str(count)]
    assert re.findall(r"beside (\d+) other curricula", text) == [str(count - 2)], "EDCO and POCL are named before"
