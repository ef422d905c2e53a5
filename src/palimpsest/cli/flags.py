"""The options of ``learn``, ``unlearn`` and ``update``: one table, a row each, from which the three commands are made.

Other commands with many options have a table of their own and are made by the same function, ``command_of``. A set of
examples is a row of ``data/sets/roles.py`` and needs none here. Another option is one row here and one line in
``cli/runs.py`` that says where its value goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from copy import copy
from typing import Annotated, Any, NamedTuple

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell
from palimpsest.data.sets.roles import ALL_VERBS, FORGETTING_VERBS, ROLES, given_roles

LEARN, UNLEARN, UPDATE = ALL_VERBS


class Flag(NamedTuple):
    """One option.

    Attributes:
        name: of the value it gives.
        annotation: type and typer option.
        verbs: those of the three that have it; for other commands it says nothing.
        default: where it is not given; ``...`` where it must be.
        usual: shown by ``--help``; the others by ``--help-all``.
    """

    name: str
    annotation: Any
    verbs: tuple[str, ...] = ALL_VERBS
    default: Any = None
    usual: bool = True

    def parameter(self) -> inspect.Parameter:
        """As a parameter of a command."""
        value = inspect.Parameter.empty if self.default is ... else self.default
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=_shown(self.annotation, self.usual)
        )


def command_of(run: Callable[[dict[str, Any]], int], flags: Iterable[Flag], about: str) -> Callable[..., int]:
    """The function that typer makes a command from.

    Args:
        run: takes the values of the options by name; returns the exit code.
        flags: the options, in the order of the help.
        about: what the help says of the command.
    """
    parameters = [flag.parameter() for flag in flags]

    def command(**values: Any) -> int:
        return run(values)

    command.__doc__ = about
    command.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _shown(annotation: Any, usual: bool) -> Any:
    """The same option, left out of ``--help`` unless it is a usual one."""
    option = copy(annotation.__metadata__[0])
    option.hidden = not usual
    return Annotated[annotation.__origin__, option]


def _one(metavar: str, about: str, *names: str) -> Any:
    return Annotated[str | None, typer.Option(*names, metavar=metavar, help=about)]


def _several(metavar: str, about: str, *names: str) -> Any:
    return Annotated[list[str] | None, typer.Option(*names, metavar=metavar, help=about)]


def _number(kind: type, about: str) -> Any:
    return Annotated[kind | None, typer.Option(metavar="N", help=about)]


def _yes(names: str, about: str) -> Any:
    return Annotated[bool, typer.Option(names, help=about, show_default=False)]


def flags_of(verb: str) -> tuple[Flag, ...]:
    """The options of a command, in the order of its help."""
    return tuple(flag for flag in FLAGS if verb in flag.verbs)


def _show_all(context: typer.Context, asked: bool) -> None:
    """Print the help with the options that ``--help`` leaves out."""
    if not asked:
        return
    for parameter in context.command.params:
        parameter.hidden = False  # type: ignore[attr-defined]
    tell(context.get_help())
    raise typer.Exit


CHANGED = ("forget", "learn")


def _changed() -> tuple[Flag, ...]:
    """What a run is about: of ``learn`` it is the data itself, and must be given."""
    forget, learn = (ROLES[name] for name in CHANGED)
    data = Annotated[str, typer.Option("--data", metavar="DATA", help=learn.about)]
    rest = tuple(verb for verb in learn.verbs if verb != LEARN)
    return (
        Flag("learn", data, (LEARN,), ...),
        Flag("learn", _one("DATA", learn.about), rest),
        Flag("forget", _one("DATA", forget.about), forget.verbs),
    )


HelpAll = Annotated[bool, typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show all options.")]

FLAGS: tuple[Flag, ...] = (
    Flag("model", o.ModelFolder, default=...),
    *_changed(),
    Flag("data", _one("DATA", "A pool to forget from; what is not named stays."), FORGETTING_VERBS),
    Flag("forget_subject", _several("NAME", "Of --data: all rows of this subject."), FORGETTING_VERBS),
    Flag("forget_id", _several("ID", "Of --data: this row."), FORGETTING_VERBS),
    Flag("forget_class", _several("NAME", "Of --data: all images of this class."), FORGETTING_VERBS),
    Flag("output", o.OutputFolder, default=...),
    *(Flag(name, _one("DATA", ROLES[name].about), ROLES[name].verbs) for name in given_roles() if name not in CHANGED),
    Flag("oracle", _one("DIR", "A model retrained without what must go."), FORGETTING_VERBS),
    Flag("make_oracle", o.MakeOracle, FORGETTING_VERBS, default=False),
    Flag("base", _one("DIR", "The model before it learned anything."), FORGETTING_VERBS),
    Flag("method", _one("NAME", "See `palimpsest methods`.  [finetune]"), (LEARN,)),
    Flag("method", _one("NAME", "See `palimpsest methods`.  [icu; images salun]"), (UNLEARN,)),
    Flag("method", _one("NAME", "See `palimpsest methods`.  [ug_clu]"), (UPDATE,)),
    Flag("preset", _one("paper", "The published rate and length.  [searched]")),
    Flag("column", o.Columns),
    Flag("separator", o.Separator),
    Flag("truncate", o.Truncate, default=False),
    Flag("answers", _yes("--answers/--no-answers", "Models' answers in the report."), default=True),
    Flag("asked_by", _one("NAME", "Who asked; for the report."), FORGETTING_VERBS),
    Flag("asked_on", _one("DATE", "When, YYYY-MM-DD; for the report."), FORGETTING_VERBS),
    Flag("plan", o.PlanFile),
    Flag("assign", o.Sets),
    Flag("record", _several("KIND", "Keep for later: deltas, past_gradients (`palimpsest companions`)."), usual=False),
    Flag("restore", o.RestoreShare, FORGETTING_VERBS),
    Flag("diversify", _number(int, "Forget each row in N other sentences, too.  [0]"), FORGETTING_VERBS, usual=False),
    Flag("gate", _several("BOUND", "For the verdict, e.g. 'retain es >= 0.8 * before'."), usual=False),
    Flag("rule", o.GivenRules, usual=False),
    Flag("split", o.Split, usual=False),
    Flag("ignore_column", o.IgnoreColumns, usual=False),
    Flag("revision", o.Revision, usual=False),
    Flag("seed", _number(int, "Seeds every random choice.  [0]"), usual=False),
    Flag("learning_rate", o.LearningRate, usual=False),
    Flag("epochs", _number(float, "At most so many passes."), usual=False),
    Flag("max_steps", _number(int, "At most so many steps; wins over --epochs."), usual=False),
    Flag("batch_size", _number(int, "Rows per step.  [8; images 64]"), usual=False),
    Flag("head", _one("KIND", "grow: learn classes it has not; new: these alone."), (LEARN, UPDATE), usual=False),
    Flag("scope", _one("KIND", "all, lora, layers or parts.  [all]"), usual=False),
    Flag("refine", o.Refine, FORGETTING_VERBS, usual=False),
    Flag("allow_forgotten", _yes("--allow-forgotten", "Forgotten rows may come back."), default=False, usual=False),
    Flag("threads", o.Threads, usual=False),
    Flag("report_to", _several("NAME", "tensorboard, trackio or wandb."), usual=False),
    Flag("json", o.Json, default=False),
    Flag("help_all", HelpAll, default=False),
)

TRAINING = {
    "seed": "seed",
    "learning_rate": "learning_rate",
    "epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "batch_size": "batch_size",
}


def training_of(values: dict[str, Any]) -> dict[str, Any]:
    """Take the training options out of the values of a command; named as in the plan."""
    return {option: values.pop(name) for name, option in TRAINING.items()}
