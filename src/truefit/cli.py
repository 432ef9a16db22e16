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
    return parser


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
    from truefit.bundle import Bundle, write_predictions

    folder = parsed.bundle or project.root() / "models" / parsed.case / "bundle"
    bundle = Bundle(folder)
    rows = bundle.predict(bundle.read(parsed.input))
    write_predictions(rows, parsed.output)
    print(f"wrote {len(rows)} predictions to {parsed.output}")
