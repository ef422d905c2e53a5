"""The parts of a version, as a list to look at: read from its folder, without torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from palimpsest.errors import ModelError, PlanError
from palimpsest.in_words import so_many
from palimpsest.models.adapter_base import adapter_in, base_of
from palimpsest.models.parts.parts_folder import TENSORS, bears_parts, parts_in, record_in
from palimpsest.models.proportions import tensor_shapes

REQUEST = "request"  # tensor of a part: which request changed each of its numbers, 0 = none
_SPAN = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_ADAPTED = re.compile(r"^base_model\.model\.(.+)\.lora_A\.weight$")


@dataclass(frozen=True)
class PartRow:
    """One part.

    Attributes:
        number: its place in the list, oldest first.
        kind: of part.
        places: names of the modules at which it acts.
        tensors: how many it has.
        numbers: how many numbers are in them.
        alpha: factor of what it does.
        method: that made it; "" where nobody says.
        run: first half of the plan's digest of the run that made it; "" where nobody says.
        requests: number of a request -> how many of its numbers that changed, of a part that says so.
    """

    number: int
    kind: str
    places: tuple[str, ...]
    tensors: int
    numbers: int
    alpha: float
    method: str
    run: str
    requests: Mapping[int, int] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it acts, in few words."""
        more = f" and {so_many(len(self.places) - 1, 'other place')}" if len(self.places) > 1 else ""
        return f"{self.places[0]}{more}" if self.places else "the model"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def part_rows(folder: Path) -> tuple[PartRow, ...]:
    """The parts of a model folder, oldest first; an adapter folder is its base with one more.

    Raises:
        ModelError: what is there cannot be read.
    """
    if adapter_in(folder):
        below = Path(base_of(folder).source)
        rows = part_rows(below) if below.is_dir() else ()
        return (*rows, _of_adapter(folder, len(rows)))
    return tuple(_of_part(part, number) for number, part in enumerate(parts_in(folder))) if bears_parts(folder) else ()


def _of_part(part: Path, number: int) -> PartRow:
    record = record_in(part)
    shapes = tensor_shapes(part / TENSORS)
    made_by = record.get("made_by")
    said = made_by if isinstance(made_by, dict) else {}
    return PartRow(
        number=number,
        kind=str(record["kind"]),
        places=_places_in(record["config"]),
        tensors=len(shapes),
        numbers=_numbers(shapes),
        alpha=float(record.get("alpha", 1.0)),
        method=str(said.get("method", "")),
        run=str(said.get("run", "")),
        requests=_requests_in(part / TENSORS, shapes),
    )


def _requests_in(file: Path, shapes: Mapping[str, list[int]]) -> dict[int, int]:
    """How many codes each request deleted."""
    if REQUEST not in shapes:
        return {}
    with safe_open(file, framework="numpy") as opened:
        return dict(sorted(Counter(int(n) for n in opened.get_tensor(REQUEST) if n).items()))


def _places_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a part sits, as far as its options say: ``at``, or that of each of its layers."""
    layers = config.get("layers")
    options = layers if isinstance(layers, list) else [config]
    return tuple(str(one["at"]) for one in options if isinstance(one, dict) and "at" in one)


def _of_adapter(folder: Path, number: int) -> PartRow:
    shapes = tensor_shapes(folder / "adapter_model.safetensors")
    places = tuple(match[1] for name in shapes if (match := _ADAPTED.match(name)) is not None)
    return PartRow(number, "lora", places, len(shapes), _numbers(shapes), 1.0, "", "")


def _numbers(shapes: Mapping[str, list[int]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def numbers_of(said: str, there: Collection[PartRow]) -> tuple[int, ...]:
    """The numbers of parts that a text means.

    Args:
        said: "3", "0-3", "0-3,7", or "all".
        there: the parts there are.

    Raises:
        PlanError: it is none of that, or names a part that is not there.
    """
    if said == "all":
        return tuple(row.number for row in there)
    found: list[int] = []
    for span in said.split(","):
        match = _SPAN.fullmatch(span.strip())
        if match is None:
            raise PlanError(f"part {said[:80]!r}; accepted: the number of a part, such as 0, 0-3, 0,2 or all")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < len(there):
            have = f"0 to {len(there) - 1}" if there else "none: it has no parts"
            raise PlanError(f"part {span.strip()} is not there; accepted: {have}")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def alphas_of(said: Mapping[str, object], there: Collection[PartRow]) -> dict[int, float]:
    """Number of a part -> its new alpha.

    Args:
        said: numbers as in ``numbers_of`` -> alpha.
        there: the parts there are.

    Raises:
        PlanError: an alpha is no number.
    """
    found: dict[int, float] = {}
    for which, value in said.items():
        try:
            alpha = float(value)  # type: ignore[arg-type] # whatever it is, it is a number or refused
        except (TypeError, ValueError):
            alpha = math.nan
        if not math.isfinite(alpha):
            raise PlanError(f"alpha of part {which} is {str(value)[:40]!r}; accepted: a number, 1 as learned, 0 off")
        found |= dict.fromkeys(numbers_of(which, there), alpha)
    return found


def check_is_folder(folder: Path) -> None:
    """Refuse what is no model folder on this machine.

    Raises:
        ModelError: it is none.
    """
    if not folder.is_dir():
        raise ModelError(f"model {folder}: no such folder; give the folder of a version")
