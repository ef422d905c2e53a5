"""What a user calls: learn in a federation, take a client out of one. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from palimpsest import companions
from palimpsest.companions.marks import KEY_VARIABLE, MarkKey, key_file, known_key
from palimpsest.data.read.layout import Layout, Source
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.engine.early import check_untouched
from palimpsest.engine.given import Manner
from palimpsest.engine.output import PLAN, Output
from palimpsest.errors import DataError, PlanError, reachable, unknown
from palimpsest.federated import erasable, erasers
from palimpsest.federated.federated_plan import CLIENT, FED_AVG, FederatedPlan, federated_plan, plan_of_work
from palimpsest.federated.given_clients import (
    LEAST_CLIENTS,
    MEASURED_SETS,
    PUBLIC_CLIENT,
    check_client_name,
    check_enough,
    read_clients,
)
from palimpsest.federated.going_through import Combining, check_timeout, check_way, through_of
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.bound import check_bound
from palimpsest.models.plain import read_json_object
from palimpsest.models.sources import check_source, source_digest
from palimpsest.records import digest
from palimpsest.report.schema import RunResult

if TYPE_CHECKING:
    from palimpsest.engine.plan import Plan
    from palimpsest.federated.at_work import Through

USUAL_ERASER = "fed_eraser"
_OF_RECORD = ("digest", "palimpsest", "source")


class Federating(NamedTuple):
    """How a federation goes about it, beside what it learns.

    Attributes:
        rounds: so many; None = until the loss has stopped falling.
        epochs: local passes of one round; None = 2.
        learns_for: eraser by whose own procedure it learns; None = federated averaging.
        options: of that eraser, or of the one by which a client is erased.
        measuring: which metrics, as in a plan.
        layout: how all rows are laid out.
        combining: how the server combines answers; of an erasure that of the version.
        way: through what clients are reached: "here", "simulation" of Flower.
        timeout: seconds after which a client is given up in a round; None = 600, and without end here.
        through: who finds the clients; None = ``way`` decides.
    """

    rounds: int | None = None
    epochs: float | None = None
    learns_for: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    measuring: Mapping[str, Any] | None = None
    layout: Layout = Layout()
    combining: Combining = Combining()
    way: str = "here"
    timeout: float | None = None
    through: Through | None = None


AS_USUAL = Federating()


@as_it_was()
def federate(
    model: str | Path,
    clients: Mapping[str, Source],
    manner: Manner,
    *,
    method: str = "finetune",
    sections: Mapping[str, Any] | None = None,
    sets: Mapping[str, Source] | None = None,
    how: Federating = AS_USUAL,
) -> RunResult:
    """Have clients learn together without showing their rows: each trains on its own, and the changes are averaged.

    Args:
        model: folder or Hub name that all start from.
        clients: name -> its rows.
        manner: where to, and how it goes about it.
        method: of the local work: a learner.
        sections: of the plan of the local work: training, scope, options, encoding, rules.
        sets: "test" and "probe" -> rows that are measured.
        how: rounds, passes, and more.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        FederationError: too few clients answered in a round; the same call goes on.
    """
    check_way(how.way)
    check_timeout(how.timeout, how.way)
    how.combining.check(how.way if how.through is None else None, bool(how.learns_for))
    source = reachable(model, "model")
    names = {name: describe_source(rows) for name, rows in sorted(clients.items())}
    for name in names:
        check_client_name(name)
    check_enough([*names])
    check_source(source, how.layout.revision)
    local = plan_of_work(source, how.layout.revision, method, dict(sections or {}))
    roles = _roles(sets)
    if how.way == "processes":
        given: dict[str, Any] = {"method": method, "sections": sections, "sets": sets}
        return _in_processes(("federate", [source, dict(clients)], given), local, clients, manner, how)
    files = {**{f"{CLIENT}{name}": file for name, file in names.items()}, **_described(roles)}
    asked = {
        "kind": "federate",
        "method": erasable.procedure_of(how.learns_for) or FED_AVG,
        "learned_for": erasable.procedure_of(how.learns_for),
        "rounds": how.rounds,
        "epochs": how.epochs,
        "searches": _searches(how, sections or {}),
        "options": _options(erasable.procedure_of(how.learns_for), how.options),
        "measuring": how.measuring,
        "combining": how.combining,
    }
    plan = federated_plan(local, files, asked)
    return _run(plan, clients, roles, manner, how)


@as_it_was()
def erase_client(
    folder: str | Path,
    gone: str,
    manner: Manner,
    *,
    by: str = USUAL_ERASER,
    clients: Mapping[str, Source] | None = None,
    sets: Mapping[str, Source] | None = None,
    retrains: bool = False,
    how: Federating = AS_USUAL,
) -> RunResult:
    """Take a client out of a federation: a new version that never knew it, or is near to that; the old one stays.

    Args:
        folder: version of ``federate``, or of an earlier erasure.
        gone: name of the client.
        manner: where to, and how it goes about it.
        by: eraser.
        clients: name -> its rows, where they are no longer where the version's plan says.
        sets: "test" and "probe" -> rows that are measured; "public" -> rows of no client, for erasers that teach.
        retrains: retrain without that client from the start as well, to be compared with.
        how: layout of the rows, metrics, and who finds the clients; rounds and passes are those of the version.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        FederationError: too few clients answered in a round; the same call goes on.
    """
    before = erasable.at_its_rate(_plan_of(folder), folder)
    rows = {**before.clients, **(clients or {})}
    _check_members(before, gone, clients or {})
    erasable.check_procedure(by, before.learned_for, str(folder))
    options = erasers.checked_options(by, {**(before.options if before.learned_for else {}), **how.options})
    check_way(how.way)
    check_timeout(how.timeout, how.way)
    _check_rounds(folder)
    _check_combining(before, by, how, str(folder))
    staying = {name: source for name, source in rows.items() if name != gone}
    if how.way == "processes":
        more: dict[str, Any] = {"by": by, "clients": clients, "sets": sets, "retrains": retrains}
        call = ("erase_client", [str(folder), gone], more)
        asked = _asked_for_erasing(rows, gone, sets or {})
        return _in_processes(call, before.local_plan(), asked, manner, how._replace(combining=before.combining))
    roles = {**_kept_roles(before), **_roles(sets), **_rows_of_gone(rows, gone)}
    files = {**{f"{CLIENT}{name}": describe_source(at) for name, at in staying.items()}, **_described(roles)}
    erasable.check_needed_rows(by, gone, files)
    other: dict[str, Any] = {} if how.measuring is None else {"measuring": how.measuring}
    changed = {"kind": "erase", "method": by, "after": str(folder), "gone": gone, "retrains": retrains}
    changed |= {"options": options, "searches": False}
    plan = FederatedPlan.model_validate({**before.model_dump(), **changed, "files": files, "digests": {}, **other})
    return _run(plan, staying, roles, manner, how)


def _run(
    plan: FederatedPlan, clients: Mapping[str, Source], roles: Mapping[str, Source], manner: Manner, how: Federating
) -> RunResult:
    """Check, read, run; what can be refused without torch is refused before it is there."""
    check_untouched(plan.model, manner.progress)
    Output(manner.output).check_free(plan)
    read = read_clients(plan.model, clients, roles, how.layout, manner.progress)
    found = {**read.digests, "model": source_digest(plan.model, plan.revision)}
    if plan.after:
        found["after"] = digest([source_digest(plan.after), _rounds_digest(plan.after)])
    plan = plan.model_copy(update={"digests": found})
    if plan.after:
        erasable.check_as_learned(_plan_of(plan.after).digests, found, plan.gone, plan.after)
    from palimpsest.federated.federating import execute_federation  # and torch with it

    with as_it_was():  # again, now that torch is there
        through = how.through or through_of(how.way, plan.combining.secret, how.timeout)
        return execute_federation(plan, read, manner, through)


def _in_processes(
    call: tuple[str, list[Any], dict[str, Any]],
    local: Plan,
    rows: Mapping[str, Source],
    manner: Manner,
    how: Federating,
) -> RunResult:
    """Make the same call in Flower's server, with a process for every client.

    Raises:
        PlanError: rows are no files.
    """
    from palimpsest.federated.flower.flower_job import FlowerJob
    from palimpsest.federated.flower.layout_said import layout_text
    from palimpsest.federated.flower.processes import in_processes

    files = {name: source for name, source in rows.items() if isinstance(source, str)}
    if len(files) < len(rows):
        raise PlanError("rows in memory are nothing for clients in processes of their own; give files, or another way")
    said = {**how._asdict(), "layout": layout_text(how.layout), "combining": how.combining.model_dump(mode="json")}
    job = FlowerJob(Path(), *call, said, str(manner.output), manner.threads, str(Path.cwd()))
    place = Path(local.model).expanduser()
    own = local.model_copy(update={"model": str(place.absolute()) if place.exists() else local.model})
    return in_processes(job, own.model_dump_json(), files, manner.progress)


def _roles(sets: Mapping[str, Source] | None) -> dict[str, Source]:
    """Role -> rows that are measured in it."""
    accepted = {**MEASURED_SETS, PUBLIC_CLIENT: PUBLIC_CLIENT}
    for name in sets or {}:
        if name not in accepted:
            raise PlanError(unknown("measured set", name, accepted))
    return {accepted[name]: rows for name, rows in (sets or {}).items() if rows is not None}


def _described(roles: Mapping[str, Source]) -> dict[str, str]:
    return {role: describe_source(source) for role, source in roles.items()}


def _plan_of(folder: str | Path) -> FederatedPlan:
    """The plan of a version that a federation made."""
    place = Path(reachable(folder, "version")).expanduser() / PLAN
    values = read_json_object(place)
    if values.get("kind") not in ("federate", "erase"):
        raise DataError(f"{folder} is no version of a federation; give a folder that `palimpsest federated run` made")
    check_bound(place.parent, "version")
    return FederatedPlan.model_validate({name: value for name, value in values.items() if name not in _OF_RECORD})


def _searches(how: Federating, sections: Mapping[str, Any]) -> bool:
    """Does the first round decide about the rate? Not where noise would be added for it, or none follows."""
    given = "learning_rate" in sections.get("training", {})
    noisy = how.combining.noise_multiplier is not None
    return not (given or noisy or erasable.procedure_of(how.learns_for) or how.rounds == 1)


def _kept_roles(before: FederatedPlan) -> dict[str, Source]:
    """What was measured of the version, as far as it is still there."""
    kept = {role: before.files[role] for role in MEASURED_SETS.values() if role in before.files}
    return {role: file for role, file in kept.items() if _is_there(file)}


def _rows_of_gone(rows: Mapping[str, Source], gone: str) -> dict[str, Source]:
    """Rows of the client that goes, to be measured, where they are still there."""
    return {"forget": rows[gone]} if gone in rows and _is_there(rows[gone]) else {}


def _is_there(source: Source) -> bool:
    return not isinstance(source, str) or Path(source.partition(":")[0]).expanduser().exists()


def _check_members(before: FederatedPlan, gone: str, given: Mapping[str, Source]) -> None:
    """Refuse a client that is none, and an erasure that leaves nobody to go on with."""
    for name in (gone, *given):
        if name not in before.clients:
            raise PlanError(unknown("client", name, before.clients))
    if len(before.clients) <= LEAST_CLIENTS - 1:
        raise PlanError(f"client {gone!r} is the only one left; take the model that the federation began with")


def _check_rounds(folder: str | Path) -> None:
    """Refuse a version without rounds, and one whose rounds are signed with a key that is not here."""
    if "rounds" not in companions.kinds_in(Path(folder).expanduser()):
        raise PlanError(
            f"{folder} has no rounds beside it (companion/rounds), by which a client could be taken out; give the "
            "folder as `palimpsest federated run` left it"
        )
    _key_of_rounds(folder)


def _key_of_rounds(folder: str | Path) -> MarkKey:
    """The key that the rounds of a version are signed with; none is made where it is gone.

    Raises:
        PlanError: there is none.
    """
    key = known_key()
    if key is None:
        raise PlanError(
            f"the rounds of {folder} are signed with a key that is not here ({key_file()} is missing); bring it back, "
            f"or set {KEY_VARIABLE} to where it is"
        )
    return key


def _check_combining(before: FederatedPlan, by: str, how: Federating, where: str) -> None:
    """Refuse an eraser that needs what secure aggregation hid, or a mean, and a way that would show it now."""
    erasable.check_rule(by, before.combining, where)
    before.combining.check(how.way if how.through is None else None)
    if before.combining.secret:
        needs = {name: erasers.load(name).needs for name in erasers.names()}
        before.combining.check_eraser(by, needs[by], tuple(name for name in needs if not needs[name]))


def _options(procedure: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the procedure that a federation learns by.

    Raises:
        PlanError: it has none, and some were given; or one that is not accepted.
    """
    if procedure:
        return erasers.checked_options(procedure, given)
    if given:
        raise PlanError(
            f"options of an eraser ({', '.join(given)}): this federation learns by averaging, which has none"
        )
    return {}


def _asked_for_erasing(rows: Mapping[str, Source], gone: str, sets: Mapping[str, Source]) -> dict[str, Source]:
    """Name -> rows of all that an eraser may ask: those who stay, who goes if its rows are there, and public rows."""
    asked = {name: source for name, source in rows.items() if name != gone or _is_there(source)}
    return asked | {name: source for name, source in sets.items() if name == PUBLIC_CLIENT}


def _rounds_digest(folder: str) -> str:
    """Of the rounds beside a version, which must be those that led to it."""
    version = Path(folder).expanduser()
    found = companions.load("rounds").open(companions.companion_place("rounds", version), _key_of_rounds(folder))
    found.check_whole(source_digest(version), str(folder))
    return found.digest()
