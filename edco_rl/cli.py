"""The `edco-rl` command: parses, calls, prints. Everything heavy is imported once a subcommand needs it."""

import argparse
import dataclasses
import itertools
import os
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .config import EngineConfig
from .errors import ConfigurationError

_INTERRUPTED = 130
_COMPLEXITY_AWARE = "complexity-aware"
_METHODS = ("distill", "grpo", "ppo", "sft", _COMPLEXITY_AWARE)


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with 2 after a wrong command line or setting, 1 after a failure, 130 after Ctrl-C."""
    # A stop request unwinds like Ctrl-C does, so that every server that was started is ended.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    sys.unraisablehook = _ask_again
    arguments = sys.argv[1:] if argv is None else argv
    try:
        _dispatch(arguments)
    except ConfigurationError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)
    except _user_facing_errors() as error:
        _fail(str(error), 1)


def _dispatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="edco-rl", description="Entropy-driven curricula for TRL.")
    parser.add_argument("--version", action="version", version=f"edco-rl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_serve(commands)
    for name, (summary, handler) in _COMMANDS.items():  # TRL's own parser reads what follows these
        commands.add_parser(name, help=summary, add_help=False).set_defaults(handler=handler)
    if arguments and arguments[0] in _COMMANDS:
        _COMMANDS[arguments[0]][1](arguments[1:])
        return
    _serve(parser.parse_args(arguments))


def _train(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="edco-rl train",
        description="Train with a curriculum. Takes --config FILE.yaml and any field of it as a flag, as trl does.",
    )
    parser.add_argument("method", choices=_METHODS, help="training method; METHOD --help lists its fields")
    method = parser.parse_args(arguments[:1]).method

    if method == _COMPLEXITY_AWARE:
        from .complexity.run import complexity_parser, run_complexity_aware

        run_complexity_aware(*_parse_with_config(complexity_parser(f"edco-rl train {method}"), arguments[1:]))
        return

    from .runs.methods_tmp import METHODS, method_parser
    from .runs.settings import RunSettings

    parsed = _parse_with_config(method_parser(METHODS[method], f"edco-rl train {method}"), arguments[1:])
    METHODS[method].run(RunSettings(*parsed))


def _score(arguments: list[str]) -> None:
    from trl import TrlParser

    from .config import DataConfig, EstimatorConfig, ScoreConfig, ScoringEngineConfig

    parser = TrlParser((ScoreConfig, EstimatorConfig, ScoringEngineConfig, DataConfig), prog="edco-rl score")
    parsed = _parse_with_config(parser, arguments)

    from .runs.score import run_score

    run_score(*parsed)


def _audit(arguments: list[str]) -> None:
    from trl import TrlParser

    from .config import AuditConfig, DataConfig, EstimatorConfig, ScoringEngineConfig

    parser = TrlParser((AuditConfig, EstimatorConfig, ScoringEngineConfig, DataConfig), prog="edco-rl audit")
    parsed = _parse_with_config(parser, arguments)

    from .audit.audit import run_audit

    run_audit(*parsed)


def _evaluate(arguments: list[str]) -> None:
    from trl import TrlParser

    from .config import DataConfig, EvaluateConfig

    parser = TrlParser((EvaluateConfig, EngineConfig, DataConfig), prog="edco-rl evaluate")
    parsed = _parse_with_config(parser, arguments)

    from .runs.evaluate import run_evaluate

    run_evaluate(*parsed)


def _benchmark(arguments: list[str]) -> None:
    from trl import TrlParser

    from .config import BenchmarkConfig

    [config] = _parse_with_config(TrlParser((BenchmarkConfig,), prog="edco-rl benchmark"), arguments)

    from .benchmark.matrix import run_benchmark
    from .report import print_matrix

    cells = run_benchmark(config)
    print_matrix(config.output_dir)
    failed = [cell for cell in cells if cell["status"] == "failed"]
    if failed:
        _fail(f"{len(failed)} of {len(cells)} cells failed; error.txt in their folders says why.", 1)


def _report(arguments: list[str]) -> None:
    from trl import TrlParser

    from .config import ReportConfig

    runs = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if not runs and not {"-h", "--help"} & set(arguments):
        raise ConfigurationError("Name the folders to report on first: edco-rl report RUNS... [--output FOLDER].")
    parser = TrlParser((ReportConfig,), prog="edco-rl report RUNS...")
    [config] = _parse_with_config(parser, arguments[len(runs) :])

    from .report import run_report

    run_report(runs, config)


# Each takes the rest of the command line, and imports what it needs when it is called.
_COMMANDS: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "train": ("train with a curriculum", _train),
    "audit": ("measure how good the estimators are on a data set", _audit),
    "score": ("score the prompts of a data set with an estimator", _score),
    "benchmark": ("compare methods and curricula over seeds and tasks", _benchmark),
    "report": ("a page, plots and tables from the folders of benchmarks or runs", _report),
    "evaluate": ("measure the accuracy of a model or adapter on a data set", _evaluate),
}


def _parse_with_config(parser: Any, arguments: list[str]) -> tuple[Any, ...]:
    """TRL's parser, with its complaints about files and keys as messages for the user."""
    for index, argument in enumerate(arguments):
        path = arguments[index + 1] if argument == "--config" and index + 1 < len(arguments) else None
        if path is not None and not Path(path).is_file():
            raise ConfigurationError(f"--config {path}: there is no such file.")
    try:
        return parser.parse_args_and_config(args=arguments, fail_with_unknown_args=True)
    except ConfigurationError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigurationError(str(error)) from error


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="start a vLLM server that is ready for weight sync",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="model folder or hub id")
    for field in dataclasses.fields(EngineConfig):
        if field.name in ("engine_mode", "engine_url", "engine_transport_dir", "engine_request_timeout"):
            continue  # the trainer's side
        flag = "--" + field.name.removeprefix("engine_").replace("_", "-")
        default = 8000 if field.name == "engine_port" else field.default
        options: dict[str, Any] = {"dest": field.name, "default": default, "help": field.metadata["help"]}
        kind = _scalar_type(field.type)
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif kind is list:
            options["nargs"] = argparse.REMAINDER
        elif isinstance(kind, tuple):
            options["choices"] = kind
        else:
            options["type"] = kind
        parser.add_argument(flag, **options)


def _scalar_type(annotation: Any) -> Any:
    """`str | None` to `str`, a `Literal` to the tuple of its choices, `list[str]` to `list`."""
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return typing.get_origin(annotation) or annotation


def _serve(options: argparse.Namespace) -> None:
    from .engine.server import VLLMServer

    values = {name: value for name, value in vars(options).items() if name not in ("command", "model")}
    config = EngineConfig(**values)
    with VLLMServer(options.model, config, config.engine_log or "engine.log") as server:
        print(f"{server.url} serves {options.model}. Ctrl-C stops it; its log is {server.log_path}.", flush=True)
        code = server.wait()
    raise SystemExit(code)


def _user_facing_errors() -> tuple[type[Exception], ...]:
    """Errors whose message says it all; only those of modules that were imported can have been raised."""
    names = {
        "edco_rl.engine.server": ("EngineStartError",),
        "edco_rl.engine.client": ("EngineError",),
        "edco_rl.engine.weights": ("WeightVersionError",),
        "edco_rl.complexity.teacher": ("TeacherError",),
    }
    return tuple(
        getattr(sys.modules[module], name)
        for module, found in names.items()
        if module in sys.modules
        for name in found
    )


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
