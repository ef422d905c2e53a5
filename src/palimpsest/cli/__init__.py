"""The command line: one verb per file. ``--help`` never imports torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from palimpsest.cli import bench, demo, env, listing, measure, report, runs
from palimpsest.errors import PalimpsestError

INTERRUPTED = 130

# typer >= 0.26 carries its own copy of click, older ones use the package: the class is reached through typer either way
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="palimpsest",
    help="Keep a trained model alive under learning and unlearning, and show what was done.",
    epilog="Exit codes: 0 passed or done, 1 failed, 2 wrong usage, 3 undecided, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in runs.ABOUT:
    app.command(verb, epilog=runs.EPILOG)(runs.command(verb))
app.command("measure")(measure.command)
app.command("report")(report.command)
app.command("methods")(listing.methods_command)
app.command("metrics")(listing.metrics_command)
app.command("env")(env.command)
app.command("demo")(demo.command)
app.add_typer(bench.app, name="bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None = those of the process.

    Returns:
        Exit code: 0 passed or done, 1 verdict or run failed, 2 wrong usage, 3 undecided.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = typer.main.get_command(app).main(given, prog_name="palimpsest", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except PalimpsestError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except ClickException as error:
        return _fail(str(getattr(error, "format_message", error.__str__)()), 2)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted; the same command again goes on from the last checkpoint", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    """One line on stderr."""
    print(f"palimpsest: error: {' '.join(message.split())}", file=sys.stderr)
    return code
