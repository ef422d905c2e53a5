"""The command line: one verb per file. ``--help`` never imports torch."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from palimpsest.cli import bench_command as bench
from palimpsest.cli import calibrate_command as calibrate
from palimpsest.cli import catalogue, listing, runs
from palimpsest.cli import clean_command as clean
from palimpsest.cli import companions_command as companions
from palimpsest.cli import demo_command as demo
from palimpsest.cli import env_command as env
from palimpsest.cli import export_command as export
from palimpsest.cli import federated_command as federated
from palimpsest.cli import harden_command as harden
from palimpsest.cli import judge_command as judge
from palimpsest.cli import measure_command as measure
from palimpsest.cli import parts_command as parts
from palimpsest.cli import report_command as report
from palimpsest.cli import rules_command as rules
from palimpsest.cli import serve_command as serve
from palimpsest.cli import verify_command as verify
from palimpsest.cli.endings import UNREAD, failed, refused
from palimpsest.cli.saying import drop_unwritten, flush_out, only_visible, tell, tell_beside, tell_line
from palimpsest.errors import Interrupted, UsageError, unknown
from palimpsest.version import VERSION

INTERRUPTED = 130
_MEANT = {"forget": "unlearn", "delete": "unlearn", "train": "learn", "finetune": "learn", "evaluate": "measure"}
"""Words that other tools have for our commands, too far from them to be guessed by spelling."""

# typer >= 0.26 carries its own copy of click, older ones use the package: the class is reached through typer either way
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


class _Stopped(Exception):
    """A command that was interrupted. typer would swallow a KeyboardInterrupt itself, some versions without a word."""


class _Unread(Exception):
    """Nobody reads what a command tells. typer would make it an exit, with the code of a failed verdict."""


class _Commands(TyperGroup):
    """Lets an interruption through, and has a guess at a command that there is not."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is asked for."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise UsageError(unknown("command", args[0], self.commands, _MEANT.get(args[0])))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Stopped from stop
        except BrokenPipeError as error:
            raise _Unread from error


def _show_version(asked: bool) -> None:
    if asked:
        tell(f"palimpsest {VERSION}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Print the version.")
]

app = typer.Typer(
    name="palimpsest",
    cls=_Commands,
    help="Keep a trained model alive under learning and unlearning, and show what was done.",
    epilog="Exit codes: 0 passed or done, 1 failed, 2 wrong usage, 3 undecided, 70 our own fault, 130 interrupted.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    """Nothing by itself."""


for verb in runs.ABOUT:
    app.command(verb, epilog=runs.EPILOG)(runs.command(verb))
app.command("calibrate")(calibrate.command)
app.command("harden")(harden.command)
app.command("measure")(measure.command)
app.command("judge")(judge.command)
app.command("report")(report.command)
app.command("verify")(verify.command)
app.command("clean")(clean.command)
app.command("companions")(companions.command)
app.command("parts")(parts.command)
app.command("export")(export.command)
app.command("methods")(listing.methods_command)
app.command("metrics")(listing.metrics_command)
app.command("rules")(rules.command)
app.command("options")(catalogue.command)
app.command("env")(env.command)
app.command("serve-model")(serve.command)
app.command("demo")(demo.command)
app.add_typer(bench.app, name="bench")
app.add_typer(federated.app, name="federated")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None = those of the process.

    Returns:
        Exit code: 0 passed or done, 1 verdict or run failed, 2 wrong usage, 3 undecided, 70 an error of
        ours, 130 interrupted, 141 where nobody read what was told.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with _termination_interrupts(), only_visible():
            code = typer.main.get_command(app).main(given, prog_name="palimpsest", standalone_mode=False)
            flush_out()
        return code if isinstance(code, int) else 0
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # some libraries raise panics that are no Exception
        return _ended_by(error, arguments, debug=debug)
    finally:
        if arguments is None:
            _end()


def _ended_by(error: BaseException, arguments: Sequence[str] | None, *, debug: bool) -> int:
    """The exit code of what ended a command, told on stderr."""
    if isinstance(error, _Stopped | typer.Abort | KeyboardInterrupt):
        if arguments is None:
            _deaf()
        return _interrupted(error, _as_typed(arguments))
    if isinstance(error, _Unread):
        return UNREAD
    return _misused(error) if isinstance(error, ClickException) else failed(error, debug=debug)


def _misused(error: Exception) -> int:
    """What typer refused."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the whole help, which is no refusal and not one line
        tell_beside(str(error))
        return 2
    return refused(str(getattr(error, "format_message", error.__str__)()), 2)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM is heard as Ctrl-C in the block, where nobody else hears it."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _deaf() -> None:
    """The process ends: another Ctrl-C would only print where in its ending Python was."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _end() -> None:
    """All is told, or cannot be; what is left is Python's own ending, which takes a second once torch is there."""
    _deaf()
    try:
        flush_out()
    except (OSError, ValueError):
        drop_unwritten()


def _interrupted(stop: BaseException, command: str) -> int:
    """One line on stderr: how far it got, where that is kept, how to go on."""
    stopped = next((error for error in (stop, stop.__cause__) if isinstance(error, Interrupted)), None)
    if stopped is None:
        words = "before anything was written (what an earlier run left is as it was); the same command"
    else:
        words = f"{stopped}; the same command goes on from there"
    tell_line(f"palimpsest: interrupted {words}: {command}")
    return INTERRUPTED


def _as_typed(arguments: Sequence[str] | None) -> str:
    """The command as the shell would take it again.

    >>> _as_typed(["report", "my run"])
    "palimpsest report 'my run'"
    """
    if arguments is not None:
        return shlex.join(["palimpsest", *arguments])
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return shlex.join([*sys.orig_argv[:1], "-m", "palimpsest", *sys.argv[1:]])
    on_path = shutil.which(script.name) == str(script)  # the system gives a script its whole path
    return shlex.join([script.name if on_path else str(script), *sys.argv[1:]])
