"""What can be erased from which federation, and from which rows, before torch is imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.federated import erasers
from palimpsest.federated.federated_plan import CLIENT, FederatedPlan
from palimpsest.federated.given_clients import PUBLIC_CLIENT
from palimpsest.federated.going_through import Combining
from palimpsest.federated.rounds_facts import federation_facts_in

_GONE = "forget"  # the set that holds the rows of the client that goes


def procedure_of(learns_for: str | None) -> str:
    """Eraser by whose own procedure a federation learns that learns for one; "" = all learn by averaging.

    >>> procedure_of("closed_form"), procedure_of("fed_eraser"), procedure_of(None)
    ('closed_form', '', '')

    Raises:
        PlanError: there is no such eraser; names the closest.
    """
    apart = {card.name for card in erasers.eraser_cards() if card.learns_apart}
    return learns_for if learns_for and erasers.known_eraser(learns_for) in apart else ""


def check_procedure(by: str, learned_for: str, where: str) -> None:
    """Refuse an eraser that cannot read how a federation learned: what it says of the result would not hold.

    Args:
        by: eraser.
        learned_for: eraser whose procedure the federation learned by; "" = averaging.
        where: the version, as the user names it.

    Raises:
        PlanError: names the erasers that can.
    """
    learned, wanted = procedure_of(learned_for), procedure_of(by)
    if learned == wanted:
        return
    how = f"for {learned}" if learned else "by averaging"
    able = [learned] if learned else [name for name in erasers.names() if not procedure_of(name)]
    more = f"; or a federation that learned for it (run --for {by})" if wanted else ""
    raise PlanError(f"{by} cannot erase from {where}, which learned {how}; accepted: --by {', '.join(able)}{more}")


def check_rule(by: str, combining: Combining, where: str) -> None:
    """Refuse an eraser whose arithmetic is that of means, where answers were combined otherwise.

    Args:
        by: eraser.
        combining: how answers of the version were combined.
        where: the version, as the user names it.

    Raises:
        PlanError: names the erasers that can.
    """
    cards = {card.name: card for card in erasers.eraser_cards()}
    if combining.plain or cards[erasers.known_eraser(by)].any_rule:
        return
    able = [name for name, card in cards.items() if card.any_rule and not card.learns_apart]
    raise PlanError(
        f"{by} reckons with means, and the answers of {where} were combined by {combining.words}; accepted: --by "
        f"{', '.join(able)}"
    )


def check_needed_rows(by: str, gone: str, files: Collection[str]) -> None:
    """Refuse an eraser that works with rows that are not there.

    Args:
        by: eraser.
        gone: the client that goes.
        files: names of the files of the plan.

    Raises:
        PlanError: says which rows, and how they are given.
    """
    (needs,) = (card.needs for card in erasers.eraser_cards() if card.name == by)
    if "gone" in needs and _GONE not in files:
        raise PlanError(f"{by} asks the client that goes, too; give its rows (--client {gone}=FILE)")
    if "public rows" in needs and PUBLIC_CLIENT not in files:
        raise PlanError(f"{by} teaches on rows of no client; give them with --public FILE")


def at_its_rate(before: FederatedPlan, folder: str | Path) -> FederatedPlan:
    """The plan of a version with the rate that its local work was found to need.

    Args:
        before: as the version has it.
        folder: of the version.

    Raises:
        DataError: it says nothing of its rounds.
    """
    rate = federation_facts_in(folder).rate
    if rate is None:
        return before
    training = {**before.local["training"], "learning_rate": rate}
    return before.model_copy(update={"local": {**before.local, "training": training}})


def check_as_learned(was: Mapping[str, str], now: Mapping[str, str], gone: str, where: str) -> None:
    """Refuse rows, or a model to begin with, that are others than those the version learned by.

    Args:
        was: digests in the plan of the version.
        now: digests of what was read.
        gone: the client that goes.
        where: the version, as the user names it.

    Raises:
        DataError: rows of a client are others; whose.
        ModelError: the model is another one.
    """
    clients = {name.removeprefix(CLIENT): digest for name, digest in now.items() if name.startswith(CLIENT)}
    clients |= {gone: now[_GONE]} if _GONE in now else {}
    for name, digest in clients.items():
        if was.get(f"{CLIENT}{name}") not in (None, digest):
            leaves = ", or move that file away: who goes need not bring rows" if name == gone else ""
            raise DataError(
                f"client {name!r}: its rows are not those that {where} learned; give the same ones (--client "
                f"{name}=FILE){leaves}"
            )
    if was.get("model") not in (None, now.get("model")):
        raise ModelError(
            f"the model that {where} began with was changed since; bring it back as it was, or learn again: "
            "palimpsest federated run"
        )
