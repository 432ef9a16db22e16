"""The command ``truefit``: run steps, write the front page, score a table."""

import argparse
import sys
from pathlib import Path

from truefit.project import TruefitError


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command.

    Returns
    -------
    int
        0 when all went well, 1 after an expected mistake (its sentence goes to stderr).
    """
    parsed = _parser().parse_args(arguments)
    try:
        parsed.command(parsed)
    except TruefitError as error:
        print(f"truefit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("truefit: interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


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

    quick = commands.add_parser(
        "quick", help="run every notebook with the quick parameters, in a copy"
    )
    quick.set_defaults(command=_quick)

    index = commands.add_parser("index", help="write reports/index.html")
    index.set_defaults(command=_index)

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
    add("--keys", type=Path, metavar="FILE", help="let in only who has one of these keys")
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
    add("--max-body", type=_positive(int), default=16, metavar="MB",
        help="megabytes in one request (default: %(default)s)")  # fmt: skip
    add("--timeout", type=_positive(float), default=10.0, metavar="SECONDS",
        help="to send a request, and to wait for its answer (default: %(default)s)")  # fmt: skip
    add("--drain", type=_positive(float, or_zero=True), default=5.0, metavar="SECONDS",
        help="go on after a signal to stop, so that requests find another way "
        "(default: %(default)s)")  # fmt: skip
    add("--watch", type=_positive(float, or_zero=True), default=1.0, metavar="SECONDS",
        help="between two looks for new bundles; 0 never looks (default: %(default)s)")  # fmt: skip
    serve.set_defaults(command=_serve)

    key = commands.add_parser("key", help="make a key for the service, and print it once")
    key.add_argument("name", help="whose key it is")
    key.add_argument("--keys", type=Path, required=True, metavar="FILE", help="to add it to")
    key.set_defaults(command=_key)
    return parser


def _positive(kind: type, *, or_zero: bool = False):
    """A number above zero, as a type of an argument."""

    def number(text: str):
        value = kind(text)
        if not (0 < value < float("inf") or (or_zero and value == 0)):
            raise ValueError
        return value

    number.__name__ = "number above 0" if not or_zero else "number from 0 on"
    return number


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


def _quick(parsed: argparse.Namespace) -> None:
    from truefit.notebook.quick import run_quick

    run_quick()


def _index(parsed: argparse.Namespace) -> None:
    from truefit.index import write_index

    write_index()
    print("wrote reports/index.html")


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
    serve(Options(**given | {"mask": tuple(parsed.mask)}))


def _key(parsed: argparse.Namespace) -> None:
    from truefit.serving.keys import make

    print(make(parsed.name, parsed.keys))
