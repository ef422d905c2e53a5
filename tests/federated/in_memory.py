"""A history in memory, and procedures answered by a function: what the tests of erasers stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palimpsest.companions.round_record import Replies, Reply, Round, Weights
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.procedure import Combine, Errand, Procedure

Answer = Callable[[str, Errand], Mapping[str, Tensor] | None]


@dataclass
class KeptRounds:
    """Rounds of a federation."""

    start: Weights
    epochs: float = 1.0
    rounds: list[Round] = field(default_factory=list)

    combine: Combine = averaged_by

    @property
    def final(self) -> Weights:
        return self.rounds[-1].combined if self.rounds else self.start

    @property
    def clients(self) -> tuple[str, ...]:
        return tuple(sorted({name for one in self.rounds for name in one.told}))

    @property
    def examples(self) -> Mapping[str, int]:
        return {name: reply.examples for one in self.rounds for name, reply in one.told.items()}

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, number: int) -> Round:
        return self.rounds[number]


def w(*numbers: float) -> dict[str, Tensor]:
    """Weights of one tensor."""
    return {"w": torch.tensor(numbers, dtype=torch.float32)}


def replies(rows: Mapping[str, int] | int = 1, loss: float = 1.0, **deltas: Mapping[str, Tensor]) -> dict[str, Reply]:
    """Client -> its answer, of so many rows."""
    return {
        name: Reply(name, delta, rows if isinstance(rows, int) else rows[name], loss, 0.0)
        for name, delta in deltas.items()
    }


def averaged_history(start: Weights, *rounds: Replies, epochs: float = 1.0) -> KeptRounds:
    """A history in which every round's answers were averaged by rows: brute force, in Python floats."""
    history, weights = KeptRounds(start, epochs), dict(start)
    for number, told in enumerate(rounds):
        rows = sum(reply.examples for reply in told.values())
        after = {
            name: torch.tensor(
                [
                    float(at.flatten()[i])
                    + sum(reply.examples / rows * float(reply.delta[name].flatten()[i]) for reply in told.values())
                    for i in range(at.numel())
                ]
            ).reshape(at.shape)
            for name, at in weights.items()
        }
        history.rounds.append(Round(number, weights, told, after))
        weights = after
    return history


def answered(procedure: Procedure, answer: Answer, rows: int = 1) -> tuple[Weights, list[Errand]]:
    """Carry a procedure out with a function for the clients; None = absent. What came out, and what was asked."""
    asked: list[Errand] = []
    told: Replies | None = None
    try:
        while True:
            errand = next(procedure) if told is None else procedure.send(told)
            left = errand._replace(who=tuple(name for name in errand.who if name not in errand.known))
            asked += [left] if left.who else []
            found = {name: answer(name, errand) for name in left.who}
            told = {name: Reply(name, delta, rows, 1.0, 0.0) for name, delta in found.items() if delta is not None}
            told |= errand.known
    except StopIteration as ended:
        final: Weights = ended.value
        return final, asked


def nobody(name: str, errand: Errand) -> None:
    """No client may be asked."""
    raise AssertionError(f"{name} was asked")
