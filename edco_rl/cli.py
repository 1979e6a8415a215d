"""The `edco-rl` command: a table of commands, each of which imports what it needs when it is called."""

import argparse
import itertools
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__, config
from .errors import ConfigurationError, EdcoRLError, nearest
from .methods import METHODS
from .parsing import Group, Parser
from .plugins import search_in
from .runs.options import method_parser
from .yaml_file import Settings

if TYPE_CHECKING:
    from .runs.settings import RunSettings

_HELP = {"-h", "--help", "--help-all", "--help_all"}
Command = Callable[[str, list[str]], None]


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with 2 after a wrong command line or setting, 1 after a failure, 130 after Ctrl-C and 143
    after SIGTERM."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    # A stop request unwinds like Ctrl-C does, so that every server that was started is ended.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        signal.signal(signal.SIGHUP, _raise_interrupt)
    sys.unraisablehook = _ask_again
    search_in(os.getcwd())
    try:
        _dispatch(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt as stop:
        _fail("interrupted", 128 + _signal_of(stop))
    except EdcoRLError as error:
        _fail(str(error), error.exit_code)


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"edco-rl {__version__}")
        return
    summaries = {name: summary for name, (summary, _) in COMMANDS.items()}
    command = _choose("edco-rl", "Entropy-driven curricula for TRL.", "command", summaries, arguments)
    COMMANDS[command][1](f"edco-rl {command}", arguments[1:])


def _choose(prog: str, about: str, what: str, summaries: dict[str, str], arguments: list[str]) -> str:
    """The first word, one of those with a summary."""
    word = arguments[0] if arguments else ""
    if word in _HELP:
        lines = "".join(f"  {name:18}{summary}\n" for name, summary in summaries.items())
        print(f"usage: {prog} {what.upper()} ...\n\n{about}\n\n{what}s:\n{lines}")
        raise SystemExit(0)
    if word not in summaries:
        wrong = f"there is no {what} {word!r}" if word else f"the {what} is missing"
        raise ConfigurationError(f"{prog}: {wrong}; choose from {', '.join(summaries)}.{nearest(word, summaries)}")
    return word


def _read(parser: Parser, arguments: list[str]) -> Settings:
    """The settings. What is wrong with them is told before torch and TRL are imported."""
    from .runs.names import NAMES, check_names

    if asked := _HELP & set(arguments):
        parser.flags(NAMES, everything=bool(asked - {"-h", "--help"})).print_help()
        raise SystemExit(0)
    settings = parser.read(arguments)
    check_names(settings)
    return settings


def _make(parser: Parser, arguments: list[str]) -> tuple[Any, ...]:
    """The parser's dataclasses."""
    return parser.make(_read(parser, arguments))


def _say_what_takes_seconds() -> None:
    from .terminal import tell

    tell("Loading torch, transformers and TRL ...")


def _parser(prog: str, classes: Sequence[type]) -> Parser:
    return Parser(prog, [Group(_TITLES.get(one, "settings"), one) for one in classes])


def _calls(name: str, path: str) -> Command:
    """A command that is a function of dataclasses, imported from a path once they are parsed."""

    def run(prog: str, arguments: list[str]) -> None:
        parsed = _make(_parser(prog, SETTINGS[name]), arguments)
        _say_what_takes_seconds()
        pkgutil.resolve_name(path)(*parsed)

    return run


def _runs(path: str) -> Command:
    """A command of its own parser, imported from a path when it is called."""

    def run(prog: str, arguments: list[str]) -> None:
        pkgutil.resolve_name(path)(prog, arguments)

    return run


def _train(prog: str, arguments: list[str]) -> None:
    about = "Train with a curriculum: METHOD --help lists the settings, which come from --config FILE.yaml and flags."
    method = METHODS[_choose(prog, about, "method", {one.name: one.summary for one in METHODS.values()}, arguments)]
    parser = method_parser(method, f"{prog} {method.name}")
    given = _read(parser, arguments[1:])

    from .runs.early_server import early_server

    with early_server(parser, given) as server:
        _say_what_takes_seconds()
        parsed = parser.make(given)

        from .runs.settings import RunSettings

        _run(replace(RunSettings(method, *parsed), server=server))


def _run(settings: "RunSettings") -> None:
    method = settings.method
    if settings.run.dry_run:
        pkgutil.resolve_name("edco_rl.runs.dry_run:dry_run")(settings)
    elif settings.run.compare_with is None:
        method.load("run")(settings)
    else:
        from .report import report_comparison
        from .runs.compare import train_and_compare

        train_and_compare(settings)
        if int(os.environ.get("RANK", "0")) == 0:
            report_comparison(settings.training.output_dir)


def _benchmark(prog: str, arguments: list[str]) -> None:
    benchmark, runner = _make(_parser(prog, SETTINGS["benchmark"]), arguments)

    from .benchmark.cells import left_out, make_cells

    cells = make_cells(benchmark)
    for cell in cells:
        cell.check()
    for sentence in left_out(cells, benchmark.recipe):
        print(sentence, file=sys.stderr)
    _say_what_takes_seconds()

    from .benchmark.matrix import run_benchmark
    from .report import print_matrix

    done = run_benchmark(benchmark, runner)
    print_matrix(benchmark.output_dir)
    failed = sum(cell["status"] == "failed" for cell in done)
    if failed:
        raise EdcoRLError(f"{failed} of {len(done)} cells failed; error.txt in their folders says why.")


def _report(prog: str, arguments: list[str]) -> None:
    runs = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if not runs and not _HELP & set(arguments):
        raise ConfigurationError("Name the folders to report on first: edco-rl report RUNS... [--output FOLDER].")
    for folder in runs:
        if not Path(folder).expanduser().is_dir():
            raise ConfigurationError(f"{folder} is no folder: expected one of edco-rl benchmark or edco-rl train.")
    [report] = _make(_parser(f"{prog} RUNS...", SETTINGS["report"]), arguments[len(runs) :])

    from .report import run_report

    run_report(runs, report)


def _serve(prog: str, arguments: list[str]) -> None:
    [serve] = _make(_parser(prog, SETTINGS["serve"]), arguments)

    from .engine.launch import resolve_engine
    from .engine.server import VLLMServer

    resolve_engine(serve, lora=True, cuda=True)  # the trainer may have both
    model = os.path.expanduser(serve.model_name_or_path)
    with VLLMServer(model, serve, serve.engine_log or "engine.log") as server:
        print(f"{server.url} serves {model}. Ctrl-C stops it; its log is {server.log_path}.", flush=True)
        code = server.wait()
    raise SystemExit(code)


_SCORING = (config.EstimatorConfig, config.ScoringEngineConfig, config.DataConfig)
SETTINGS: dict[str, tuple[type, ...]] = {
    "audit": (config.AuditConfig, *_SCORING),
    "score": (config.ScoreConfig, *_SCORING, config.RunnerConfig),
    "benchmark": (config.BenchmarkConfig, config.RunnerConfig),
    "report": (config.ReportConfig,),
    "evaluate": (config.EvaluateConfig, config.EngineConfig, config.DataConfig),
    "serve": (config.ServeConfig,),
    "doctor": (config.DoctorConfig, config.EngineConfig),
}
"""Settings of each command but `train`, whose methods have theirs."""
_TITLES: dict[type, str] = {
    config.EstimatorConfig: "estimator",
    config.ScoringEngineConfig: "engine",
    config.EngineConfig: "engine",
    config.DataConfig: "data",
    config.RunnerConfig: "runner",
}
COMMANDS: dict[str, tuple[str, Command]] = {
    "train": ("train with a curriculum", _train),
    "audit": ("measure how good the estimators are on a data set", _calls("audit", "edco_rl.audit.audit:run_audit")),
    "score": ("score the prompts of a data set with an estimator", _calls("score", "edco_rl.runs.score:run_score")),
    "benchmark": ("compare methods and curricula over seeds and tasks", _benchmark),
    "report": ("a page, plots and tables from the folders of benchmarks or runs", _report),
    "evaluate": (
        "measure the accuracy of a model or adapter on a data set",
        _calls("evaluate", "edco_rl.runs.evaluate:run_evaluate"),
    ),
    "serve": ("start a vLLM server that is ready for weight sync", _serve),
    "recipes": ("list the recipes, or print or copy one by its name", _runs("edco_rl.shipped_recipes:run_recipes")),
    "doctor": (
        "what is installed, what works on this machine, and what to do about the rest",
        _calls("doctor", "edco_rl.doctor.examine:run_doctor"),
    ),
}
"""Summary of each command, and what runs it, given what it is called and the rest of the command line."""


def _complete() -> None:
    """Answer the shell that completes a command line: words of the command at hand, and what its settings can be."""
    import argcomplete

    from .runs.names import NAMES

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = f"{line}|".split()[1:-1]  # whole ones
    parser: argparse.ArgumentParser
    if words[:1] == ["train"] and words[1:2] and words[1] in METHODS:
        parser, known = method_parser(METHODS[words[1]], "train").flags(NAMES, everything=True), 2
    elif words and words[0] in SETTINGS:
        parser, known = _parser(words[0], SETTINGS[words[0]]).flags(NAMES), 1
    else:
        parser, known = argparse.ArgumentParser(), len(words)
        parser.add_argument("chosen", choices=list(METHODS if words[:1] == ["train"] else COMMANDS))
    os.environ["_ARGCOMPLETE"] = str(int(os.environ["_ARGCOMPLETE"]) + known)
    argcomplete.autocomplete(parser)


def _ask_again(unraisable: Any) -> None:
    """Ask again for a stop that Python swallowed because it came while an object was being destroyed."""
    sys.__unraisablehook__(unraisable)
    if unraisable.exc_type is KeyboardInterrupt:
        again = threading.Timer(0.1, os.kill, (os.getpid(), _signal_of(unraisable.exc_value)))
        again.daemon = True
        again.start()


def _raise_interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(signum))


def _signal_of(stop: BaseException) -> int:
    """Which signal a stop came from; Python's own of Ctrl-C does not say."""
    return stop.args[0] if stop.args else signal.SIGINT


def _fail(message: str, code: int) -> NoReturn:
    if int(os.environ.get("RANK", "0")) == 0:  # with several processes, one message is enough
        print(f"edco-rl: error: {message}", file=sys.stderr)
    raise SystemExit(code)
