"""The contract of federated learning and of erasing a client.

Who learns and who erases is a *procedure*: a generator that yields what it asks of clients, is sent their answers, and
returns the final weights. It holds no model and touches no disk. ``carrying_out.py`` carries it out: it has the clients
do what is asked (in this process, or through Flower), writes every answer down before the procedure sees it, and takes
a run that died up again by giving the recorded answers to a new generator. So a procedure must be a function of its
arguments and of the answers alone: no clock, no random number without a fixed seed, no file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from palimpsest.companions.round_record import Absent, Replies, Reply, Round, Weights
from palimpsest.method_card import Config

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

__all__ = [
    "Absent", "Clients", "Combine", "Config", "Eraser", "Errand", "Procedure", "Replies", "Reply", "Round", "Rounds",
    "Weights",
]  # fmt: skip

NO_SETTINGS: Mapping[str, float] = MappingProxyType({})
NO_WEIGHTS: Weights = MappingProxyType({})
NOTHING_KNOWN: Mapping[str, Reply] = MappingProxyType({})


class Errand(NamedTuple):
    """What is asked of clients in one round.

    Attributes:
        weights: the global weights that they start from.
        who: names of clients, each once; the answers come back in this order.
        epochs: local passes over their own rows.
        what: kind of local work, a word of ``work.py``: "learn", "ascend", "statistics", "distil".
        settings: of that kind of work, e.g. {"learning_rate": 1e-3}.
        known: answers that are taken from a history, so that these clients are not asked again.
        beside: further weights that the work looks at, e.g. the teacher of "distil".
        loss: do they say their loss at the weights that they are sent? It takes a pass forward over their rows.
    """

    weights: Weights
    who: tuple[str, ...]
    epochs: float = 1.0
    what: str = "learn"
    settings: Mapping[str, float] = NO_SETTINGS
    known: Replies = NOTHING_KNOWN
    beside: Weights = NO_WEIGHTS
    loss: bool = True


Procedure = Generator[Errand, Replies, Weights]
"""Yields what to ask, is sent the answers, returns the final weights."""

Combine = Callable[[Weights, Replies], "dict[str, Tensor]"]
"""Weights before a round and its answers -> weights after it."""


class Rounds(Protocol):
    """The history of a version: the rounds that made it, in order (``companions/rounds.py`` reads them from disk)."""

    @property
    def start(self) -> Weights:
        """Weights before the first round."""

    @property
    def final(self) -> Weights:
        """Weights after the last one: those of the version."""

    @property
    def clients(self) -> tuple[str, ...]:
        """Names of all who took part, sorted."""

    @property
    def examples(self) -> Mapping[str, int]:
        """Client -> its rows."""

    @property
    def epochs(self) -> float:
        """Local passes of one round."""

    def combine(self, weights: Weights, answers: Replies) -> dict[str, Tensor]:
        """Weights after answers, by the rule that the federation learned by; the same weights where nobody answered."""

    def __len__(self) -> int:
        """Number of rounds."""

    def __getitem__(self, number: int) -> Round:
        """One round, read and checked now.

        Raises:
            IndexError: there is no such round.
            ModelError: its record was changed.
        """


class Clients(Protocol):
    """Who does the local work: in this process (``local.py``), or through Flower (``flower/``)."""

    @property
    def names(self) -> tuple[str, ...]:
        """All clients, sorted."""

    def ask(self, ask: Errand, number: int) -> Iterator[Reply | Absent]:
        """Have every client of ``ask.who`` do its local work.

        Args:
            ask: without ``known``; nobody who has answered before is in ``who``.
            number: of the round; with the seed and the client's name it decides all that is drawn.

        Yields:
            Each client once, as it answers or is given up, in any order: an answer is written down as it comes.
        """


class Eraser:
    """One published way to take a client out of a federation: a file in ``erasers/`` that sets ``ERASER``.

    Class attributes, written as plain values:
        Config: its options.
        name: the file's.
        source: paper and identifier.
        use_when: for who chooses: what it is good for, and what it is not.
        exact: does it give what the same procedure gives without that client?
        guarantee: what may be relied on after it, one line for the report; begins with "None" where it is none.
        needs: "rounds" (single updates of single clients), "public rows", "gone" (the client must still answer).
        from_start: it goes back to the weights before the first round, which then must know nobody.
        learns_apart: it erases only from a federation that learned by its own ``learn`` (run --for NAME).
        any_rule: what it makes of answers goes through ``history.combine`` alone, so that it can erase whatever the
            answers were combined by; False = its arithmetic is that of means.

    Attributes:
        config: its options.
    """

    Config: ClassVar[type[BaseModel]] = Config
    name: ClassVar[str]
    source: ClassVar[str]
    use_when: ClassVar[str] = ""
    exact: ClassVar[bool] = False
    guarantee: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("rounds",)
    from_start: ClassVar[bool] = True
    learns_apart: ClassVar[bool] = False
    any_rule: ClassVar[bool] = False

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """The weights that never knew a client, or are near to it.

        Args:
            history: rounds of the version to erase from.
            gone: name of the client; in ``history.clients``.
        """
        raise NotImplementedError

    def promise(self) -> str:
        """What may be relied on after it, with these options; default: ``guarantee``."""
        return self.guarantee

    def learn(self, start: Weights, names: tuple[str, ...], epochs: float, rounds: int | None) -> Procedure:
        """How a federation learns from which this eraser can erase; default: federated averaging.

        Args:
            start: weights before the first round.
            names: of the clients.
            epochs: local passes of one round.
            rounds: so many; None = until the stop rule of ``fed_avg.py``.
        """
        from palimpsest.federated.fed_avg import fed_avg

        return fed_avg(start, names, epochs, rounds)

    def check(self, bench: Any) -> None:
        """Refuse a model that this cannot learn on, before anybody is asked; default: none is refused.

        Args:
            bench: a ``Workbench``.
        """

    def install(self, bench: Any, final: Weights) -> None:
        """Lay what came out into the model; default: weights, by their names.

        Args:
            bench: a ``Workbench``.
            final: what ``learn`` or ``erase`` returned.
        """
        bench.lay(final)
