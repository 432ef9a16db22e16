"""The command ``truefit``: run steps, write the front page, score a table."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from truefit.project import TruefitError


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command.

    Returns
    -------
    int
        0 when all went well, 1 after an expected mistake (its sentence goes to stderr) or where
        nobody reads the output to its end, 3 when what is monitored is red; argparse ends with 2
        what it cannot read.
    """
    parsed = _parser().parse_args(arguments)
    try:
        code = parsed.command(parsed) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # what reads the output, head for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TruefitError as error:
        print(f"truefit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("truefit: interrupted; nothing was changed", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="truefit", description="From a table to a model in production."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="execute the notebook of one step")
    run.add_argument("step", help="for instance 03_training")
    run.add_argument(
        "--case", help="a block under cases: in params.yaml, for a step that is about one"
    )
    run.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one parameter of the step; may be given more than once",
    )
    run.add_argument(
        "--quick", action="store_true", help="take the parameters under quick: in params.yaml"
    )
    run.set_defaults(command=_run)

    repro = commands.add_parser("repro", help="run what has changed of the pipeline, on all cores")
    add = repro.add_argument
    add("targets", nargs="*", metavar="STAGE", help="with those that it needs (default: all)")
    add("--jobs", "-j", type=_positive(int), metavar="N",
        help="at most so many stages at once (default: as many as there are cores)")  # fmt: skip
    add("--force", "-f", action="store_true", help="run what has not changed, too")
    repro.set_defaults(command=_repro)

    quick = commands.add_parser(
        "quick", help="run every notebook with the quick parameters, in a copy"
    )
    quick.set_defaults(command=_quick)

    index = commands.add_parser("index", help="write reports/index.html")
    index.set_defaults(command=_index)

    scorecard = commands.add_parser(
        "scorecard", help="run the evidence for the ML Test Score; write reports/scorecard.html"
    )
    scorecard.set_defaults(command=_scorecard)

    predict = commands.add_parser("predict", help="score a table with an exported bundle")
    which = predict.add_mutually_exclusive_group(required=True)
    which.add_argument("--case", help="use the bundle of this case of the project")
    which.add_argument("--bundle", type=Path, help="use the bundle in this folder")
    predict.add_argument("--input", type=Path, required=True, help="a CSV or Parquet file")
    predict.add_argument(
        "--output", type=Path, required=True, help="a CSV or Parquet file to write"
    )
    predict.set_defaults(command=_predict)

    serve = commands.add_parser("serve", help="answer requests over HTTP with exported bundles")
    add = serve.add_argument
    add("--models", type=Path, metavar="DIR",
        help="holds <case>/bundle for each case (default: the project's models)")  # fmt: skip
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    add("--host-name", action="append", default=[], metavar="NAME",
        help="let it be asked by this name, too, beside addresses in numbers and localhost; with a "
        "dot in front, by all names that end so; may be given more than once")  # fmt: skip
    add("--keys", type=Path, metavar="FILE", help="let in only who has one of these keys")
    add("--private", action="store_true",
        help="ask for a key for all but /health/live and /health/ready")  # fmt: skip
    log = serve.add_mutually_exclusive_group()
    log.add_argument("--log", type=Path, default=Path("request-log"), metavar="DIR",
                     help="keep requests and answers here (default: %(default)s)")  # fmt: skip
    log.add_argument("--no-log", dest="log", action="store_const", const=None,
                     help="keep no requests")  # fmt: skip
    add("--mask", action="append", default=[], metavar="COLUMN",
        help="do not keep this column in the log; may be given more than once")  # fmt: skip
    add("--keep-days", type=_positive(int), default=30, metavar="N",
        help="delete logs of days before (default: %(default)s)")  # fmt: skip
    add("--max-rows", type=_positive(int), default=10_000, metavar="N",
        help="rows in one request (default: %(default)s)")  # fmt: skip
    add("--max-body", type=_positive(int), default=32, metavar="MB",
        help="megabytes in one request, or in one answer (default: %(default)s)")  # fmt: skip
    add("--timeout", type=_positive(float), default=10.0, metavar="SECONDS",
        help="to send a request, and to wait for its answer (default: %(default)s)")  # fmt: skip
    add("--drain", type=_positive(float, or_zero=True), default=5.0, metavar="SECONDS",
        help="go on after a signal to stop, so that requests find another way "
        "(default: %(default)s)")  # fmt: skip
    add("--watch", type=_positive(float, or_zero=True), default=1.0, metavar="SECONDS",
        help="between two looks for new bundles; 0 never looks (default: %(default)s)")  # fmt: skip
    add("--shadow", type=_share, metavar="SHARE",
        help="let <case>/challenger, where there is one, score this share of the requests beside "
        "the bundle that answers; see /comparison")  # fmt: skip
    add("--canary", type=_share, metavar="SHARE",
        help="let <case>/challenger answer this share of the requests")  # fmt: skip
    serve.set_defaults(command=_serve)

    monitor = commands.add_parser(
        "monitor",
        help="watch a running service: what changed in its requests and answers",
        description="Writes the page of 07_monitoring for the log of a service, which may be "
        "running.",
        epilog="The exit code is 3 if the newest window is red or the newest labels were, 0 if "
        "they are green or amber or no window has enough rows, and 1 after a mistake, so that cron "
        "or CI can act on it.",
    )
    add = monitor.add_argument
    add("--case", required=True, help="a block under cases: in params.yaml")
    add("--log", type=Path, required=True, metavar="DIR",
        help="where `truefit serve --log` keeps requests and answers")  # fmt: skip
    add("--labels", type=Path, metavar="FILE",
        help="a CSV or Parquet file with what became of the rows: the target, and the case's id or "
        "request_id and row")  # fmt: skip
    add("--every", choices=["hour", "day", "week", "month"],
        help="rows to look at together (default: monitoring.every in params.yaml)")  # fmt: skip
    add("--output", type=Path, metavar="PAGE.html",
        help="the page to write (default: monitoring-CASE.html)")  # fmt: skip
    add("--metrics", type=Path, metavar="FILE.prom",
        help="also write the figures of the newest window for Prometheus's textfile collector; "
        "`truefit alerts` prints the rules for them")  # fmt: skip
    monitor.set_defaults(command=_monitor)

    alerts = commands.add_parser("alerts", help="print the monitor's rules for Prometheus")
    alerts.set_defaults(command=_alerts)

    key = commands.add_parser("key", help="make a key for the service, and print it once")
    key.add_argument("name", help="whose key it is")
    key.add_argument("--keys", type=Path, required=True, metavar="FILE", help="to add it to")
    key.set_defaults(command=_key)

    promote = commands.add_parser("promote", help="put a version of a bundle into a stage")
    rollback = commands.add_parser("rollback", help="put back what was in production before")
    for command in (promote, rollback):
        add = command.add_argument
        add("case", help="a block under cases: in params.yaml")
        add("-m", "--message", default="", help="why, for those who look later")
        add("--target", type=Path, metavar="DIR",
            help="put the files into <case>/bundle of this folder (default: the project's folder "
            "that is named like the stage)")  # fmt: skip
    promote.add_argument("--stage", choices=("staging", "production"), default="production",
                         help="default: %(default)s")  # fmt: skip
    promote.add_argument("--version", metavar="V", help="v1.0.0 for instance, or a stage "
                         "for the one in it (default: the bundle of the last commit)")  # fmt: skip
    promote.set_defaults(command=_promote)
    rollback.set_defaults(command=_rollback)

    registry = commands.add_parser("registry", help="show versions, stages and their history")
    registry.add_argument("case", nargs="?", help="default: all")
    registry.set_defaults(command=_registry)
    return parser


def _positive(kind: type, *, or_zero: bool = False) -> Callable[[str], float]:
    """A number above zero, as a type of an argument."""

    def number(text: str) -> float:
        value = kind(text)
        if not (0 < value < float("inf") or (or_zero and value == 0)):
            raise ValueError
        return value

    number.__name__ = "number above 0" if not or_zero else "number from 0 on"
    return number


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError
    return value


_share.__name__ = "share above 0, at most 1"


# Each command imports what it needs: `truefit run` starts in a second because it loads no model.


def _run(parsed: argparse.Namespace) -> None:
    from truefit.notebook import run
    from truefit.project import InputError

    changes = {}
    for given in parsed.parameter:
        name, equals, value = given.partition("=")
        if not equals:
            raise InputError(f"-p {given}: write NAME=VALUE")
        changes[name] = value
    report = run(parsed.step, parsed.case, changes, quick=parsed.quick)
    print(
        f"wrote {report.relative_to(Path.cwd()) if report.is_relative_to(Path.cwd()) else report}"
    )


def _repro(parsed: argparse.Namespace) -> int:
    from truefit.repro import repro

    try:
        repro(parsed.targets, jobs=parsed.jobs, force=parsed.force)
    except KeyboardInterrupt:
        print("truefit: interrupted; what was finished before is kept", file=sys.stderr)
        return 130
    return 0


def _quick(parsed: argparse.Namespace) -> None:
    from truefit.notebook.quick import run_quick

    run_quick()


def _index(parsed: argparse.Namespace) -> None:
    from truefit.index import write_index

    write_index()
    print("wrote reports/index.html")


def _scorecard(parsed: argparse.Namespace) -> None:
    from truefit.scorecard import MOST, shown, unproven, write_scorecard

    judged = write_scorecard()
    print(f"wrote reports/scorecard.html: {shown(judged['score'])} of {shown(MOST)}")
    if failed := unproven(judged):
        named = "; ".join(failed[:3]) + f"; {len(failed) - 3} more" * (len(failed) > 3)
        print(f"not counted: {named}; run pytest on them to see why", file=sys.stderr)


def _predict(parsed: argparse.Namespace) -> None:
    from truefit import project
    from truefit.bundle import Bundle
    from truefit.predict import predict, read_rows, write_predictions

    folder = parsed.bundle or project.root() / "models" / parsed.case / "bundle"
    bundle = Bundle(folder)
    rows = predict(bundle, read_rows(bundle, parsed.input))
    write_predictions(rows, parsed.output)
    print(f"wrote {len(rows)} predictions to {parsed.output}")


def _serve(parsed: argparse.Namespace) -> None:
    from truefit import project
    from truefit.serving import Options, serve

    given = {k: v for k, v in vars(parsed).items() if k in Options.__dataclass_fields__}
    given["models"] = parsed.models or project.root() / "models"
    given |= {name: tuple(given[name]) for name in ("mask", "host_name")}
    serve(Options(**given))


def _monitor(parsed: argparse.Namespace) -> int:
    import json

    from truefit.notebook import run_aside
    from truefit.project import InputError
    from truefit.verdicts import Light

    page = parsed.output or Path(f"monitoring-{parsed.case}.html")
    if parsed.metrics and (parsed.metrics.is_dir() or not parsed.metrics.parent.is_dir()):
        what = "it is a folder" if parsed.metrics.is_dir() else "its folder is not there"
        raise InputError(f"{parsed.metrics} cannot be written: {what}")
    # The notebook runs in another folder than the caller, and its parameters are YAML.
    given = {"log": parsed.log.absolute(), "labels": parsed.labels and parsed.labels.absolute()}
    changes = {
        name: json.dumps(str(path), ensure_ascii=False) for name, path in given.items() if path
    }
    changes |= {"every": parsed.every} if parsed.every else {}
    written = run_aside("monitoring", parsed.case, changes, page)
    said = json.loads(written[f"monitoring/{parsed.case}.json"])
    if parsed.metrics:
        _replace(parsed.metrics, written[f"monitoring/{parsed.case}.prom"])
    print(f"wrote {page}")
    newest = f"{said['light']} in {said['window']}" if said["window"] else "no light"
    print(f"{newest}: {said['reason']}")
    return 3 if said["light"] == Light.RED else 0


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all: it may be read at any moment."""
    from truefit import project

    try:
        with project.replacing(file) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise project.InputError(f"{file} cannot be written: {error.strerror}") from None


def _alerts(parsed: argparse.Namespace) -> None:
    from truefit import params
    from truefit.monitoring.prometheus import alert_rules

    settings = params.load()
    own = {case: settings.section("monitoring", case) for case in settings.cases}
    print(alert_rules(settings.monitoring, own), end="")


def _key(parsed: argparse.Namespace) -> None:
    from truefit.serving.keys import make

    print(make(parsed.name, parsed.keys))


def _promote(parsed: argparse.Namespace) -> None:
    from truefit.registry import promote

    given = {k: getattr(parsed, k) for k in ("version", "message", "target")}
    print(promote(parsed.case, parsed.stage, **given))


def _rollback(parsed: argparse.Namespace) -> None:
    from truefit.registry import rollback

    print(rollback(parsed.case, message=parsed.message, target=parsed.target))


def _registry(parsed: argparse.Namespace) -> None:
    from truefit.registry import table

    print(table(parsed.case))
