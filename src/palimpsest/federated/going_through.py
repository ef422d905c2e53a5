"""Through what clients are reached, and how their answers are combined; importing this needs no Flower."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from palimpsest.engine.sections import Section
from palimpsest.errors import MissingExtra, PlanError, unknown
from palimpsest.method_card import configured

if TYPE_CHECKING:
    from palimpsest.companions.marks import MarkKey
    from palimpsest.federated.at_work import Through
    from palimpsest.federated.procedure import Combine

WAYS = ("here", "simulation", "processes")
"""In this process one after the other; through Flower's simulation; through Flower's server and a node for each."""
COMBININGS = ("mean", "median", "trimmed_mean", "krum")
_MEAN, _NOISY_MEAN = "the mean", "a clipped mean with noise"
MEANS = (_MEAN, _NOISY_MEAN)
"""``Combining.words`` of those that a liar moves."""


class Combining(Section):
    """How the server combines what clients answered."""

    by: str = "mean"
    """mean (by rows), or one that a few liars do not move: median, trimmed_mean, krum."""
    secret: bool = False
    """Secure aggregation: the server learns the mean alone, so that no eraser can use single answers."""
    noise_multiplier: float | None = Field(default=None, ge=0)
    """Of client-level differential privacy: noise of this many clipping norms over the number of clients."""
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm of one client's change, where there is noise."""

    @property
    def plain(self) -> bool:
        """By the mean of rows, without noise."""
        return self.by == "mean" and self.noise_multiplier is None

    @property
    def words(self) -> str:
        """By what.

        >>> Combining().words, Combining(by="krum").words, Combining(noise_multiplier=1.0).words
        ('the mean', 'krum', 'a clipped mean with noise')
        """
        if self.noise_multiplier is not None:
            return _NOISY_MEAN
        return _MEAN if self.by == "mean" else self.by

    def problems(self, way: str | None, learns_apart: bool) -> list[str]:
        """What cannot go together, in words.

        Args:
            way: through what clients are reached; None = not known here.
            learns_apart: it learns by an eraser's own procedure.
        """
        plain = self.plain
        found = [
            (self.by not in COMBININGS, unknown("way to combine", self.by, COMBININGS)),
            (
                self.noise_multiplier is not None and self.by != "mean",
                f"noise for privacy is computed for the mean, not for {self.by!r}; leave one of both out",
            ),
            (self.secret and not plain, "secure aggregation gives the mean alone; leave --combine and --noise out"),
            (
                self.secret and way == "here",
                "secure aggregation needs clients in processes of their own: --through simulation or processes",
            ),
            (
                learns_apart and (self.secret or not plain),
                "--for learns by its own procedure from single answers; leave --combine, --noise and --secret out",
            ),
        ]
        return [said for wrong, said in found if wrong]

    def check(self, way: str | None, learns_apart: bool = False) -> None:
        """Refuse what cannot go together.

        Raises:
            PlanError: all of it.
            MissingExtra: Flower is needed and not there.
        """
        if problems := self.problems(way, learns_apart):
            raise PlanError("; ".join(problems))
        if not self.plain:
            check_flower(f"combining by {self.by!r} with Flower's strategies")

    def check_eraser(self, name: str, needs: tuple[str, ...], able: tuple[str, ...]) -> None:
        """Refuse an eraser that needs what secure aggregation hid.

        Raises:
            PlanError: names those that can.
        """
        if self.secret and needs:
            raise PlanError(
                f"{name} needs single clients' updates, and this federation learned by secure aggregation: its rounds "
                f"hold the mean alone; accepted: --by {', '.join(able)}"
            )


def combining_of(values: Mapping[str, Any]) -> Combining:
    """How answers are combined, from what a user said.

    Raises:
        PlanError: a value that is not accepted; which.
    """
    flags = {"by": "--combine", "noise_multiplier": "--noise", "clipping_norm": "--clip", "secret": "--secret"}
    return cast("Combining", configured("combining", Combining, values, flags))


def combine_with(said: Combining, key: MarkKey) -> Combine:
    """What makes new weights of answers.

    Args:
        said: checked.
        key: of the owner: noise is drawn from it.
    """
    if said.plain:
        from palimpsest.federated.averaging import averaged_by

        return averaged_by
    from palimpsest.federated.flower.combining import Private, combining

    noise = said.noise_multiplier
    return combining(said.by, None if noise is None else Private(noise, said.clipping_norm, key))


def through_of(way: str, secret: bool = False, timeout: float | None = None) -> Through | None:
    """What finds the clients of a workbench; None = they are in this process.

    Args:
        way: one of ``WAYS`` but "processes", where the whole command runs in Flower's server.
        secret: by secure aggregation.
        timeout: seconds after which a client is given up in a round; None = Flower's part decides.

    Raises:
        PlanError: there is no such way.
        MissingExtra: it needs Flower.
    """
    check_way(way)
    if way == "here":
        return None
    from palimpsest.federated.flower.benches import through_simulation

    given: dict[str, Any] = {"secret": secret} if timeout is None else {"secret": secret, "timeout": timeout}
    return partial(through_simulation, **given)


def check_way(way: str) -> None:
    """Refuse a way that is none, or that needs what is not there.

    Raises:
        PlanError: there is no such way; names the closest.
        MissingExtra: it needs Flower.
    """
    if way not in WAYS:
        raise PlanError(unknown("way to reach clients", way, WAYS))
    if way != "here":
        check_flower(f"--through {way}")


def check_timeout(timeout: float | None, way: str) -> None:
    """Refuse a time that is none, or that nothing would end by.

    >>> check_timeout(None, "here"), check_timeout(5.0, "simulation")
    (None, None)

    Raises:
        PlanError: says what is accepted.
    """
    if timeout is not None and not 0 < timeout < math.inf:
        raise PlanError(f"--timeout {timeout}: accepted: seconds, more than 0")
    if timeout is not None and way == "here":
        raise PlanError(
            "--timeout: clients in this process are waited for; leave it out, or give --through simulation or processes"
        )


def check_flower(purpose: str) -> None:
    """Refuse what needs Flower where it is not installed.

    Raises:
        MissingExtra: names the extra.
    """
    if importlib.util.find_spec("flwr") is None:
        raise MissingExtra("flwr", "federated", purpose)
