"""``palimpsest measure``."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.saying import tell, tell_json
from palimpsest.cli.screen import shown_progress
from palimpsest.in_words import interval as ends
from palimpsest.in_words import show as written

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.records import Answer


_FLAGS = (
    Flag("model", o.ModelFolder, default=...),
    Flag("data", o.option(str, "Rows or images: file, folder or Hub name.", "--data", metavar="DATA"), default=...),
    Flag(
        "metrics",
        o.option(
            str | None, "E.g. ma,es; see `palimpsest metrics`.  [ma,el,es; images accuracy,prob]", metavar="NAMES"
        ),
    ),
    Flag("assign", o.Sets),
    Flag("token_ids", o.IdsOfTokens, default=False),
    Flag(
        "without_parts",
        Annotated[bool, typer.Option("--without-parts", help="The weights alone: what lies behind a guard.")],
        default=False,
    ),
    Flag(
        "probe",
        Annotated[bool, typer.Option("--probe", help="Classes: what a linear probe still finds in the features.")],
        default=False,
    ),
    Flag("max_length", o.option(int | None, "Longest row in tokens.  [the model's]", least=2)),
    Flag("separator", o.Separator),
    Flag("truncate", o.Truncate, default=False),
    Flag("batch_size", o.option(int, "Rows per forward pass; changes no value.  [32]", least=1), default=32),
    Flag("revision", o.Revision),
    Flag("threads", o.Threads),
    Flag("show", o.option(int, "N answers, the most known row's first.  [0]", least=0), default=0),
    Flag("column", o.Columns),
    Flag("ignore_column", o.IgnoreColumns),
    Flag("split", o.Split),
    Flag("json", o.Json, default=False),
)


def _run(values: dict[str, Any]) -> int:
    from palimpsest.engine.sections import Encoding
    from palimpsest.verbs import measure

    as_its_own = (
        *("model", "data", "token_ids", "without_parts", "probe"),
        *("revision", "batch_size", "threads", "split", "show"),
    )
    chosen = _chosen(values)
    with shown_progress(quiet=values["json"]) as progress:
        evaluation = measure(
            **{name: values[name] for name in as_its_own},
            metrics=chosen,
            options=o.metric_options(values["assign"], chosen),
            encoding=Encoding(**{name: values[name] for name in ("max_length", "truncate", "separator")}),
            progress=progress,
            columns=o.column_names(values["column"]),
            ignore_columns=values["ignore_column"] or (),
        )
    if values["json"]:
        tell_json(json_module.dumps(as_json(evaluation), indent=1))
    else:
        tell(_as_text(evaluation))
    return 0


def _chosen(values: Mapping[str, Any]) -> list[str]:
    """The metrics asked for, or the usual ones."""
    from palimpsest.engine.measured_set import default_metrics

    given = values["metrics"]
    names = default_metrics(values["model"], values["revision"]) if given is None else given.split(",")
    return [name.strip() for name in names if name.strip()]


command = command_of(_run, _FLAGS, "Measure what a model knows of the examples in a file.")


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """``{"metrics", "examples", "cost"}``; per-example values are null where an example cannot be scored.

    With ``--show`` also "answers": what was asked, what was expected, what the model says, and the example's scores;
    with ``--probe`` also "probe": class -> recall, false alarms, and of how many rows.
    """
    ids = next(iter(evaluation.scores.values())).by_id if evaluation.scores else {}
    found: dict[str, Any] = {
        "metrics": {key: _summary(score) for key, score in evaluation.scores.items()},
        "examples": [{"id": i, **_values(evaluation, i)} for i in ids],
        "cost": asdict(evaluation.cost),
    }
    if evaluation.answers:
        found["answers"] = [_answer(evaluation, answer) for answer in evaluation.answers]
    if evaluation.probe:
        found["probe"] = {name: probed._asdict() for name, probed in evaluation.probe.items()}
    return found


def _probe_lines(evaluation: Evaluation) -> list[str]:
    """Class by class; what is recognised as often as it is mistaken is not in the features."""
    if not evaluation.probe:
        return []
    from palimpsest.report.numbers import show_or_dash

    lines = ["a linear probe on what enters the head, on rows it was not fitted to: recognises, takes others for it"]
    for name, found in evaluation.probe.items():
        said = f"{show_or_dash(found.recall)}  {show_or_dash(found.false)}"
        few = "" if found.recall is not None else "; too few rows: two of the class and two others are needed"
        lines.append(f"probe {name:10} {said}  n={found.rows} and {found.others} others{few}")
    return lines


def _values(evaluation: Evaluation, example_id: str) -> dict[str, float | None]:
    return {key: score.by_id[example_id] for key, score in evaluation.scores.items()}


def _answer(evaluation: Evaluation, answer: Answer) -> dict[str, Any]:
    fields = {name: getattr(answer, name) for name in ("id", "place", "subject", "prompt", "expected")}
    return {**fields, "said": next(iter(answer.said.values())), "scores": _values(evaluation, answer.id)}


def _summary(score: Any) -> dict[str, Any]:
    names = ("value", "low", "high", "n", "unscored", "direction", "unit", "version")
    return {name: getattr(score, name) for name in names} | ({"why": score.why} if score.why else {})


def _as_text(evaluation: Evaluation) -> str:
    from palimpsest.report.said import examples_text
    from palimpsest.report.schema import AnswerRow

    lines = []
    for key, score in evaluation.scores.items():
        value = f"unscored{score.why and f', {score.why}'}" if score.value is None else written(score.value)
        interval = ends(score.low, score.high)
        lines.append(f"{key:10} {value}{interval}  n={score.n}  {score.unit}; {score.direction}")
    lines += _probe_lines(evaluation)
    cost = evaluation.cost
    images = any("image" in score.unit for score in evaluation.scores.values())
    passed = "images" if images else "token positions"
    lines.append(f"{written(cost.seconds)} s, {cost.tokens} {passed}, peak {cost.peak_bytes / 2**20:.0f} MiB")
    names = {answer.id: answer.place or answer.id for answer in evaluation.answers}
    rows = [AnswerRow.of(answer).model_copy(update={"id": names[answer.id]}) for answer in evaluation.answers]
    lines += examples_text(rows, {name: _values(evaluation, key) for key, name in names.items()})
    return "\n".join(lines)
