"""The `edco-rl` command: a table of commands, each of which imports what it needs when it is called."""

import argparse
import itertools
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from . import __version__, config
from .errors import ConfigurationError, EdcoRLError
from .methods import METHODS
from .plugins import search_in

_INTERRUPTED = 130
Command = Callable[[str, list[str]], None]


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with 2 after a wrong command line or setting, 1 after a failure, 130 after Ctrl-C."""
    # A stop request unwinds like Ctrl-C does, so that every server that was started is ended.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        signal.signal(signal.SIGHUP, _raise_interrupt)
    sys.unraisablehook = _ask_again
    search_in(os.getcwd())
    try:
        _dispatch(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)
    except EdcoRLError as error:
        _fail(str(error), error.exit_code)


def _dispatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="edco-rl", description="Entropy-driven curricula for TRL.")
    parser.add_argument("--version", action="version", version=f"edco-rl {__version__}")
    command = _choose(parser, "command", {name: summary for name, (summary, _) in COMMANDS.items()}, arguments)
    COMMANDS[command][1](f"edco-rl {command}", arguments[1:])


def _choose(parser: argparse.ArgumentParser, what: str, summaries: dict[str, str], arguments: list[str]) -> str:
    """The first word, one of those with a summary. TRL's own parser reads what follows it."""
    choices = parser.add_subparsers(dest="chosen", required=True, metavar=what)
    for name, summary in summaries.items():
        choices.add_parser(name, help=summary, add_help=False)
    return parser.parse_args(arguments[:1]).chosen


def _parse(prog: str, arguments: list[str], *classes: type) -> tuple[Any, ...]:
    from .parsing import Parser, parse_command_line

    return parse_command_line(Parser(classes, prog=prog), arguments)


def _calls(path: str, *classes: type) -> Command:
    """A command that is a function of dataclasses, imported from a path once they are parsed."""

    def run(prog: str, arguments: list[str]) -> None:
        parsed = _parse(prog, arguments, *classes)
        pkgutil.resolve_name(path)(*parsed)

    return run


def _runs(path: str) -> Command:
    """A command of its own parser, imported from a path when it is called."""

    def run(prog: str, arguments: list[str]) -> None:
        pkgutil.resolve_name(path)(prog, arguments)

    return run


def _train(prog: str, arguments: list[str]) -> None:
    description = (
        "Train with a curriculum. Takes --config FILE.yaml and any field of it as a flag, as trl does; METHOD --help "
        "lists them."
    )
    parser = argparse.ArgumentParser(prog=prog, description=description)
    summaries = {method.name: method.summary for method in METHODS.values()}
    method = METHODS[_choose(parser, "method", summaries, arguments)]

    from .parsing import parse_command_line
    from .runs.settings import RunSettings, method_parser

    parsed = parse_command_line(method_parser(method, f"{prog} {method.name}"), arguments[1:])
    settings = RunSettings(method, *parsed)
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
    [benchmark] = _parse(prog, arguments, config.BenchmarkConfig)

    from .benchmark.matrix import run_benchmark
    from .report import print_matrix

    cells = run_benchmark(benchmark)
    print_matrix(benchmark.output_dir)
    failed = sum(cell["status"] == "failed" for cell in cells)
    if failed:
        raise EdcoRLError(f"{failed} of {len(cells)} cells failed; error.txt in their folders says why.")


def _report(prog: str, arguments: list[str]) -> None:
    runs = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if not runs and not {"-h", "--help"} & set(arguments):
        raise ConfigurationError("Name the folders to report on first: edco-rl report RUNS... [--output FOLDER].")
    [report] = _parse(f"{prog} RUNS...", arguments[len(runs) :], config.ReportConfig)

    from .report import run_report

    run_report(runs, report)


def _serve(prog: str, arguments: list[str]) -> None:
    [serve] = _parse(prog, arguments, config.ServeConfig)

    from .engine.launch import resolve_engine
    from .engine.server import VLLMServer

    resolve_engine(serve, lora=True, cuda=True)  # the trainer may have both
    model = os.path.expanduser(serve.model_name_or_path)
    with VLLMServer(model, serve, serve.engine_log or "engine.log") as server:
        print(f"{server.url} serves {model}. Ctrl-C stops it; its log is {server.log_path}.", flush=True)
        code = server.wait()
    raise SystemExit(code)


_SCORING = (config.EstimatorConfig, config.ScoringEngineConfig, config.DataConfig)
COMMANDS: dict[str, tuple[str, Command]] = {
    "train": ("train with a curriculum", _train),
    "audit": (
        "measure how good the estimators are on a data set",
        _calls("edco_rl.audit.audit:run_audit", config.AuditConfig, *_SCORING),
    ),
    "score": (
        "score the prompts of a data set with an estimator",
        _calls("edco_rl.runs.score:run_score", config.ScoreConfig, *_SCORING),
    ),
    "benchmark": ("compare methods and curricula over seeds and tasks", _benchmark),
    "report": ("a page, plots and tables from the folders of benchmarks or runs", _report),
    "evaluate": (
        "measure the accuracy of a model or adapter on a data set",
        _calls("edco_rl.runs.evaluate:run_evaluate", config.EvaluateConfig, config.EngineConfig, config.DataConfig),
    ),
    "serve": ("start a vLLM server that is ready for weight sync", _serve),
    "recipes": ("list the recipes, or print or copy one by its name", _runs("edco_rl.shipped_recipes:run_recipes")),
    "doctor": (
        "what is installed, what works on this machine, and what to do about the rest",
        _calls("edco_rl.doctor.examine:run_doctor", config.DoctorConfig, config.EngineConfig),
    ),
}
"""Summary of each command, and what runs it, given what it is called and the rest of the command line."""


def _ask_again(unraisable: Any) -> None:
    """Ask again for a stop that Python swallowed because it came while an object was being destroyed."""
    sys.__unraisablehook__(unraisable)
    if unraisable.exc_type is KeyboardInterrupt:
        again = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()


def _raise_interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    if int(os.environ.get("RANK", "0")) == 0:  # with several processes, one message is enough
        print(f"edco-rl: error: {message}", file=sys.stderr)
    raise SystemExit(code)
