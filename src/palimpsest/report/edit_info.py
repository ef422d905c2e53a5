"""What stands in a record of a run that edited weights: which neurons went and why, and what a probe still finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from palimpsest.in_words import so_many
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.row import ReportRow, without_empty

if TYPE_CHECKING:
    from palimpsest.report.schema import RunResult

_NOT_PROBED = (
    "Disconnected or erased? A linear probe tells by rows that stay, of which there were none, or one: give some, "
    "--retain FILE."
)
NEURONS_SHOWN = 20
"""Neurons in the report; ``edit.json`` and the JSON twin have them all."""


class NeuronRow(ReportRow):
    """A neuron that went."""

    rank: int = Field(ge=1)
    """In the ranking of its class; 1 went first."""
    neuron: int = Field(ge=0)
    """Number of the coordinate in what enters the layer."""
    about: str = ""
    """Name of the class (of a text the token) that it spoke for; empty where whole rows were to go."""
    layer: str = ""
    """That it enters; empty for the head."""
    edges: str
    """What of it was cut: "head" (its edge to the class), "columns" (to all classes), "path" (also what makes it)."""
    samples: int = Field(ge=0)
    """Samples that it is among the most relevant of."""
    of: int = Field(ge=1)
    """Samples of the class that were looked at."""
    others: int = Field(default=0, ge=0)
    """Rows of what stays that it is among the most relevant of, too."""
    of_others: int = Field(default=0, ge=0)
    """Rows of what stays that were looked at; 0 where none was."""
    relevance: float
    """Its mean relevance for the samples."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "about", "layer", "others", "of_others")


class ProbeRow(ReportRow):
    """What a linear probe on the features that enter the head finds, on rows that it was not fitted to."""

    recall: float = Field(ge=0, le=1)
    """Share of the rows of what was to go that it recognises."""
    false: float = Field(ge=0, le=1)
    """Share of the rows that stay which it takes for them."""


class EditInfo(ReportRow):
    """An edit of weights."""

    set: str = ""
    """The set whose samples were looked at."""
    samples: int = Field(default=0, ge=0)
    """So many of them."""
    without_samples: int = Field(default=0, ge=0)
    """Classes (of texts tokens) of the forget set that no sample was of: they were left as they are."""
    learned: int | None = None
    """Of these, samples that the model had learned; None where no record tells."""
    changed: tuple[str, ...] = ()
    """Names of the tensors."""
    neurons: tuple[NeuronRow, ...] = ()
    """All that went, class by class."""
    probe: dict[str, ProbeRow] = Field(default_factory=dict)
    """"before" and "after"; empty where the run had nothing to compare."""
    probed: str = ""
    """What it was asked to tell apart."""


def edited_lines(result: RunResult) -> tuple[str, ...]:
    """What was cut, and what it left, in sentences; none where nothing was edited."""
    info = result.edit
    if info is None:
        return ()
    return tuple(line for line in (_looked(info), _probed(info)) if line)


def _looked(info: EditInfo) -> str:
    if not info.neurons:
        return ""
    names = sorted({row.about for row in info.neurons} - {""})
    about = f" for the class {names[0]}" if len(names) == 1 else f" for {len(names)} classes" if names else ""
    known = {None: "", 0: ", none of which the model had learned"}.get(
        info.learned, f", {info.learned} of which the model had learned: the method asks for unseen ones, --unseen FILE"
    )
    left = ""
    if info.without_samples:
        left = f" No sample was of {info.without_samples} more, which were left as they are."
    return (
        f"{so_many(len(info.neurons), 'neuron')} cut{about}, found on {so_many(info.samples, 'sample')} of the "
        f"{info.set} set{known}.{left}"
    )


def _probed(info: EditInfo) -> str:
    """Disconnected or erased: in numbers, with those from before beside them."""
    before, after = info.probe.get("before"), info.probe.get("after")
    if before is None or after is None:
        return _NOT_PROBED if info.neurons else ""
    told = after.recall > after.false
    begin = "Disconnected, not erased" if told else "Not to be found in the features"
    still = "still recognises" if told else "recognises"
    return (
        f"{begin}: a linear probe on what enters the head {still} {show_or_dash(after.recall)} of {info.probed} "
        f"({show_or_dash(before.recall)} before), and takes {show_or_dash(after.false)} of what stays for it "
        f"({show_or_dash(before.false)} before)."
    )


def neuron_table(result: RunResult) -> tuple[tuple[str, ...], ...]:
    """Rank, neuron, class, in how many samples, mean relevance: the first of all classes, written out."""
    rows = () if result.edit is None else sorted(result.edit.neurons, key=lambda row: row.rank)[:NEURONS_SHOWN]
    return tuple(map(_cells, rows))


def _cells(row: NeuronRow) -> tuple[str, ...]:
    """As many as ``neuron_head`` names."""
    chosen, last = f"{row.samples} of {row.of}", show_or_dash(row.relevance)
    if row.layer:
        return (str(row.rank), row.layer, str(row.neuron), chosen, f"{row.others} of {row.of_others}", last)
    return (str(row.rank), str(row.neuron), row.about, row.edges, chosen, last)


def neuron_head(result: RunResult) -> tuple[str, ...]:
    """What stands above the columns of ``neuron_table``."""
    if result.edit is not None and any(row.layer for row in result.edit.neurons):
        return ("rank", "layer", "neuron", "in samples", "in rows that stay", "mean relevance")
    return ("rank", "neuron", "class", "cut", "in samples", "mean relevance")


def neurons_text(result: RunResult) -> list[str]:
    """The same for a terminal, in columns."""
    rows = neuron_table(result)
    if not rows or result.edit is None:
        return []
    table = [neuron_head(result), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
    more = len(result.edit.neurons) - len(rows)
    return [*lines, *([f"and {so_many(more, 'neuron')} more, in edit.json"] if more else [])]
