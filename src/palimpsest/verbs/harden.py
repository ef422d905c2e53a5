"""Make what was forgotten hard to bring back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack, cast

from palimpsest import methods
from palimpsest.data.read.layout import Source
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.engine.early import check_examples, check_untouched
from palimpsest.engine.given import Given, Manner
from palimpsest.engine.hardening_plan import HardeningPlan
from palimpsest.engine.inputs import digests, read_given
from palimpsest.engine.output import Output
from palimpsest.engine.returning import refuse_forgotten
from palimpsest.engine.sections import as_taught
from palimpsest.errors import PlanError
from palimpsest.method_card import configured
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.parts.part_rows import part_rows
from palimpsest.models.sources import check_source, family_of, source_digest
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import layout_of, manner_of, path_of, refuse_unknown
from palimpsest.verbs.harden_arguments import HardenArguments
from palimpsest.verbs.in_memory import Model, on_disk, renamed

BETA, EPOCHS = 0.1, 40.0  # ours: the published size of the noise is not in our notes
_SETS = ("forget", "replay", "general")
_OPTIONS = ("learning_rate", "batch_size", "seed", "measuring")


@as_it_was()
def harden(
    model: str | Path | Model,
    retain: Source,
    *,
    alpha: float,
    output: str | Path,
    beta: float = BETA,
    epochs: float = EPOCHS,
    **arguments: Unpack[HardenArguments],
) -> RunResult:
    """Drown a model that forgot in noise, and teach it what it said before: what is left of what it forgot goes, too.

    Every weight becomes (1 − alpha) of itself and alpha · beta of noise; then it learns, on the rows that stay, what
    the model that forgot says of them. It is a new version; the old one stays.

    Args:
        model: that forgot, by any method: folder, Hub name or in memory.
        retain: what must stay: it is taught on these rows, and on those of replay and general.
        alpha: 0 leaves the model as it is, 1 leaves nothing of its weights; 0.6 is a beginning.
        output: folder for the new version and its report; must not exist yet.
        beta: size of the noise; 1 is that of fresh weights.
        epochs: passes over retain at most; it ends as soon as what stays is said as before.
        arguments: see ``palimpsest.verbs.harden_arguments.HardenArguments``.

    Returns:
        The result, as in ``result.json``, with the scores of all sets before and after.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
    """
    refuse_unknown(arguments, HardenArguments.__annotations__)
    return _hardened(model, retain, output, {"alpha": alpha, "beta": beta, "epochs": epochs}, arguments)


def _hardened(
    model: object, retain: Source, output: str | Path, asked: Mapping[str, Any], arguments: Mapping[str, Any]
) -> RunResult:
    """The same with a model that may be in memory put on the disk meanwhile."""
    values: dict[str, Any] = {"model": model}
    named = {"retain": retain, **{name: arguments.get(name) for name in _SETS}}
    with on_disk(values, tokenizer_needed=not arguments.get("token_ids")) as names:
        manner = manner_of(output, arguments)
        sets = {name: source for name, source in named.items() if source is not None}
        given = Given(path_of(values["model"], "model"), sets, layout=layout_of(arguments))
        chosen = {name: arguments[name] for name in _OPTIONS if name in arguments}
        result = _run(_plan(given, {**asked, **chosen}, arguments), given, manner)
        renamed(manner.output, names)
    return result


def _plan(given: Given, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> HardeningPlan:
    """The plan, before anything is read; all that can be refused without the rows is."""
    revision = arguments.get("revision")
    check_source(given.model, revision)
    _check_hides_nothing(given.model)
    _check_share(asked["alpha"])
    encoding = arguments.get("encoding") or HardeningPlan.model_fields["encoding"].default
    if family_of(given.model, revision).has_classes:
        asked = {"measuring": {"metrics": ("accuracy",)}, **asked}
    fields = {
        "model": given.model,
        "revision": revision,
        "files": {role: describe_source(source) for role, source in given.sets.items()},
        "encoding": as_taught(encoding, given.model),
        **{name: value for name, value in asked.items() if value is not None},
    }
    return cast("HardeningPlan", configured("harden", HardeningPlan, fields))


def _check_share(alpha: object) -> None:
    """Refuse a share of noise that is none.

    Raises:
        PlanError: says which ones are.
    """
    if isinstance(alpha, int | float) and not 0 <= alpha <= 1:
        raise PlanError(f"alpha is {alpha:g}; accepted: 0 (the model as it is) to 1 (nothing of its weights)")


def _check_hides_nothing(model: str) -> None:
    """Refuse weights that know what a guard hides, which they would say again, and shards, which have no one model.

    Raises:
        PlanError: names the part.
    """
    folder = Path(model).expanduser()
    for part in part_rows(folder) if folder.is_dir() else ():
        if part.method in methods.names() and methods.card(part.method).approach == "guard":
            raise PlanError(
                f"model {model} has a guard ({part.kind}), and its weights still know what it hides: hardening would "
                "teach them that again; harden a version whose weights forgot (palimpsest methods)"
            )
        if part.kind == "ensemble":
            raise PlanError(
                f"model {model} is an ensemble of shards; noise would end its exactness, and nothing is left to harden "
                "where rows were never learned"
            )


def _run(plan: HardeningPlan, given: Given, manner: Manner) -> RunResult:
    """Check, read, harden; what can be refused without torch is refused before it is there."""
    check_untouched(plan.model, manner.progress)
    Output(manner.output).check_free(plan)
    read = read_given(given, manner.progress, separator=plan.encoding.separator)
    for examples in read.examples.values():
        check_examples(examples, plan.model, plan.revision)
    refuse_forgotten(read.examples, (plan.model,), "leave them out of what is taught again")
    found = {**digests(read.examples), "model": source_digest(plan.model, plan.revision)}
    plan = plan.model_copy(update={"digests": found})
    from palimpsest.engine.hardening import execute_hardening  # and torch with it

    with as_it_was():  # again, now that torch is there
        return execute_hardening(plan, read, manner)
