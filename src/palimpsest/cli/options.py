"""Options that several verbs share, and how ``--set`` finds its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest import methods, metrics
from palimpsest.errors import PlanError, unknown
from palimpsest.loop.aliases import meant_section

ROUTED = ("training", "control", "repair", "scope", "pairing", "refine", "measuring", "encoding")

Model = Annotated[str, typer.Option("--model", help="Folder or Hub name of the model, or resnet20@FOLDER.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the new model; must not exist.")]
Revision = Annotated[str | None, typer.Option(help="Commit of a Hub name.")]
Holdout = Annotated[str | None, typer.Option(help="Comparable examples the model never saw.")]
General = Annotated[str | None, typer.Option(help="General text, for perplexity.")]
Replay = Annotated[str | None, typer.Option(help="Examples rehearsed beside.")]
Oracle = Annotated[str | None, typer.Option(help="Folder of a model retrained without the forget set.")]
MakeOracle = Annotated[
    bool, typer.Option("--make-oracle", help="Have the oracle retrained from --base on --retain; kept, and reused.")
]
Base = Annotated[str | None, typer.Option(help="The model before it learned anything: for retrain, --make-oracle.")]
Seed = Annotated[int | None, typer.Option(help="Seeds every random choice.  [0]")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", "--lr", help="A fixed rate.  [the run finds its own]")
]
Refine = Annotated[
    bool | None, typer.Option("--refine/--no-refine", help="At a fixed rate: stop when every example passes.")
]
Preset = Annotated[str | None, typer.Option(help="paper: the published rate and length of the method.")]
Epochs = Annotated[float | None, typer.Option(help="At most so many passes.")]
MaxSteps = Annotated[int | None, typer.Option(help="At most so many steps; wins over --epochs.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step.  [8; images 64]")]
ScopeKind = Annotated[str | None, typer.Option("--scope", help="all, lora or layers.  [all]")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="YAML or JSON with sections of options.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="a.b=value, e.g. icu.alpha=0.3 training.betas=[0.9,0.98].")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.  [1 for a small model]")]
ReportTo = Annotated[list[str] | None, typer.Option(help="tensorboard, trackio or wandb.")]
IgnoreColumns = Annotated[list[str] | None, typer.Option(help="Column of the data to leave out.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def sections(
    method: str,
    plan_file: Path | None,
    assignments: Iterable[str] | None,
    training: Mapping[str, Any],
    scope: str | None,
    preset: str | None,
) -> dict[str, Any]:
    """Sections of a plan: the file's, overridden by ``--set``, overridden by named options.

    Args:
        method: its name is a section for its own options.
        plan_file: of ``--plan``.
        assignments: of ``--set``.
        training: named training options, None where not given.
        scope: of ``--scope``.
        preset: of ``--preset``.

    Raises:
        PlanError: an assignment that is not ``a.b=value``, or whose ``a`` does not exist.
    """
    found: dict[str, Any] = {}
    if plan_file is not None:
        from palimpsest.verbs.plan import read_plan_file

        found = read_plan_file(plan_file)
    for assignment in assignments or ():
        place, key, value = parse_assignment(assignment)
        _section(found, method, place, key)[key] = value
    given = {key: value for key, value in training.items() if value is not None}
    if given:
        found["training"] = {**found.get("training", {}), **given}
    if preset is not None:
        found["preset"] = preset
    if scope is not None:
        found["scope"] = {**found.get("scope", {}), "kind": scope}
    return found


def parse_assignment(assignment: str) -> tuple[str, str, Any]:
    """Section, option and value of ``a.b=value``; the value is read as YAML.

    >>> parse_assignment("icu.alpha=0.3")
    ('icu', 'alpha', 0.3)
    """
    import yaml

    path, equals, raw = assignment.partition("=")
    place, dot, key = path.partition(".")
    if not (equals and dot and place and key):
        raise PlanError(f"--set {assignment!r}: accepted: a.b=value, e.g. icu.alpha=0.3")
    try:
        return place, key, yaml.safe_load(raw)
    except yaml.YAMLError:
        raise PlanError(
            f"--set {assignment!r}: the value is no YAML; quote it if it holds a colon or bracket"
        ) from None


GATES = (
    "gates are no a.b=value: give all of them as a list in the file of --plan, e.g. "
    "gates: [{set: retain, metric: es, at_least: 0.9, relative_to: before, mode: ratio}]; a forget set has its own "
    "unless one is named for it there"
)


def _section(found: dict[str, Any], method: str, place: str, key: str) -> dict[str, Any]:
    """The mapping that an assignment writes into."""
    if place in ROUTED:
        return found.setdefault(place, {})  # type: ignore[no-any-return]
    if place == method:
        return found.setdefault("options", {})  # type: ignore[no-any-return]
    if place in metrics.names():
        return found.setdefault("measuring", {}).setdefault("options", {}).setdefault(place, {})  # type: ignore[no-any-return]
    if place in methods.names():
        raise PlanError(f"--set {place}.…: the run's method is {method!r}; give --method {place}, or set {method}.…")
    if place in {"gates", "gate"}:
        raise PlanError(f"--set {place}.{key}: {GATES}")
    raise PlanError(
        f"--set: {unknown('section', place, (*ROUTED, method, *metrics.names()), meant_section(place, key))}"
    )


def metric_options(assignments: Iterable[str] | None, chosen: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Metric -> its options, from assignments such as ``el.n=10``.

    Raises:
        PlanError: an assignment to something that is not measured.
    """
    found: dict[str, dict[str, Any]] = {}
    names = tuple(chosen)
    for assignment in assignments or ():
        place, key, value = parse_assignment(assignment)
        if place not in names:
            raise PlanError(f"--set: {unknown('metric of this call', place, names)}")
        found.setdefault(place, {})[key] = value
    return found
