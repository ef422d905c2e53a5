"""Where a run is written: beside its output under ``<output>.partial`` until it is whole, then renamed in one move.

So an output folder that exists is complete, and a partial one belongs to exactly one plan.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from palimpsest.companions import COMPANIONS
from palimpsest.durable import check_held_still, held, is_held, put
from palimpsest.engine.any_plan import AnyPlan
from palimpsest.engine.measured_json import Measured, measured_json, measured_of
from palimpsest.engine.plan_record import PLACES, recorded_digest
from palimpsest.engine.whose import first_link, foreign_in, is_temporary, remove_ours, temporaries_in
from palimpsest.errors import PlanError, reachable
from palimpsest.files import check_makeable_folder, write_atomic
from palimpsest.models.bound import changes_in, check_bound, write_manifest
from palimpsest.models.parts.parts_folder import BASE, PARTS
from palimpsest.models.plain import read_json_object
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.untrusted import parse_json

RESULT = "result.json"
PLAN = "plan.json"
PARTIAL = ".partial"  # what the name of an output ends in until it is whole
REJECTED = "rejected.txt"  # in a partial folder whose run ended by an error of its own, e.g. diverged
LONGEST_NAME = 200  # bytes; with .partial and the like it must stay below 255
READ_LATER = {
    "files",
    "model",
    "after",
    "base",
    "oracle",
    "request",
    "digests",
    "head",
}  # of a plan: not chosen, or not known (whole) at first
OR_VERSION = "(or of another version of palimpsest)"
TRAINED = "trained.json"  # how training ended; where it is, the model beside it is whole and on the disk
CHECKPOINT = "checkpoint.safetensors"
FOR_AN_ENDING = 30.0  # seconds to wait for a process that only has to put its finished run in place
SAVED_BESIDE = frozenset({"mixing", "restored", "restored.json"})  # of a run that gives back
FEDERATED = "federated"  # clients at work, and rounds of a retraining; signed, so that a changed one is refused
ONLY_FOR_THE_RUN = SAVED_BESIDE | {CHECKPOINT, TRAINED, FEDERATED, "control", "derived", "recording", "reference",
                                   "remembered", "repair"}  # fmt: skip


class Output:
    """The folder of one run."""

    def __init__(self, folder: str | Path) -> None:
        """The folder and, beside it, the one for what is not whole yet.

        Raises:
            PlanError: no folder can have that name.
        """
        self.folder = Path(folder)
        if not self.folder.name or len(os.fsencode(self.folder.name)) > LONGEST_NAME:
            raise PlanError(f"output {str(folder)!r}: give the name of a new folder, at most {LONGEST_NAME} bytes long")
        reachable(self.folder, "output", PlanError)
        self.partial = self.folder.with_name(self.folder.name + PARTIAL)
        reachable(self.partial, "output", PlanError)
        for place in (self.folder, self.partial):
            if place.is_symlink() and not place.exists():
                raise PlanError(f"output {place} is a link to nothing; delete the link, or give another --output")
        if self.partial.is_symlink():
            raise PlanError(f"{self.partial} is a link, and would be written to; move it, or give another --output")
        if self.partial.exists() and not self.partial.is_dir():
            raise PlanError(f"{self.partial} is no folder, and would be written to; move it, or give another --output")

    def finished(self, plan: AnyPlan) -> bool:
        """Is this plan's run already there, whole? Who holds the place puts one there that died just before.

        Raises:
            PlanError: the folder holds something else.
            ModelError: it is not as its run left it.
        """
        if not self.folder.exists():
            if not is_held(self.partial) or not self._is_whole(plan):
                return False
            self.complete()
        if not self._is_run():
            raise PlanError(self._no_run)
        check_bound(self.folder, "output")
        if self._digest_in(self.folder) == plan.digest():
            return True
        raise PlanError(self._other_run(plan))

    def check_free(self, plan: AnyPlan) -> None:
        """Refuse, before anything is read, what ``finished`` and ``begin`` would refuse whatever is read.

        Raises:
            PlanError: the folder holds something else, or a run whose plan asks for something else.
        """
        if self.folder.exists():
            if not self._is_run():
                raise PlanError(self._no_run)
            if self._asks_otherwise(self.folder, plan):
                raise PlanError(self._other_run(plan))
        elif self.partial.exists():
            self._check_ours()
            if not (self.partial / REJECTED).exists() and self._asks_otherwise(self.partial, plan):
                raise PlanError(self._other_unfinished(plan))
        check_makeable_folder(self.folder, "output", PlanError)

    def begin(self, plan: AnyPlan) -> None:
        """Write the plan into the partial folder, which is made, or find the run that is there.

        Raises:
            PlanError: it belongs to another plan or to somebody else, or the place cannot be written to.
        """
        self._make()
        self._check_ours()
        if (self.partial / REJECTED).exists():
            self._clear()
            self._check_cleared()
        if not self._is_empty():
            if self._digest_in(self.partial) != plan.digest():
                raise PlanError(self._other_unfinished(plan))
            return
        write_atomic(self.partial / "plan.json", json.dumps(plan.written_down(), indent=1) + "\n")

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add what the run found out about itself to the plan that lies there; no part of its digest."""
        path = self.partial / "plan.json"
        values = parse_json(path.read_text(encoding="utf-8"))
        write_atomic(path, json.dumps({**values, **facts}, indent=1) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the output in the block; folders that were made for it and stay empty go again.

        Raises:
            PlanError: one of them has it, or the place cannot be written to.
        """
        with ExitStack() as stack:
            made = self._take(stack)
            try:
                yield
            finally:
                with suppress(OSError):  # one is not empty: it stays, and those above it
                    for folder in made:
                        folder.rmdir()

    def _take(self, stack: ExitStack) -> Sequence[Path]:
        """Make the partial folder and lock it; waits for one who is only about to rename it.

        Returns:
            The folders that were made, from within.
        """
        until, made = time.monotonic() + FOR_AN_ENDING, dict.fromkeys(self._make())
        while True:
            with suppress(FileNotFoundError), ExitStack() as attempt:  # it may be renamed or removed since
                if attempt.enter_context(held(self.partial)):
                    stack.push(attempt.pop_all())
                    return tuple(made)
            is_ending = (self.partial / RESULT).is_file() or not self.partial.exists()
            if not is_ending or time.monotonic() > until:
                raise PlanError(f"{self.partial} is being written by another process; wait, or give another --output")
            time.sleep(0.05)
            made = dict.fromkeys([*self._make(), *made])

    def _make(self) -> list[Path]:
        """Make the partial folder; it and those above it that were not there."""
        missing = [folder for folder in (self.partial, *self.partial.parents) if not folder.exists()]
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            return missing
        except OSError as error:
            raise PlanError(
                f"output {self.folder}: {error.strerror or error}; give a folder that can be made"
            ) from None

    def abandon(self) -> None:
        """Remove the partial folder of a run that was refused before its first checkpoint."""
        if not any((self.partial / name).exists() for name in (CHECKPOINT, TRAINED)):
            self._clear()
            with suppress(OSError):  # it holds something of somebody else
                self.partial.rmdir()

    def reject(self, reason: str) -> None:
        """Leave plan and log for a look, with why; the next run into this output clears them away.

        Nobody goes on from here, and the rest is large and tells of the forget set: weights that know it, answers to
        its rows, texts that the model said.
        """
        write_atomic(self.partial / REJECTED, reason + "\n")
        for path in self.partial.iterdir():
            of_rows = path.name in ONLY_FOR_THE_RUN or path.name == COMPANIONS
            weights = path.name in (BASE, PARTS) or path.suffix == ".safetensors"
            if of_rows or weights or is_temporary(path):
                remove_ours(path)

    def _clear(self) -> None:
        for path in self.partial.iterdir():
            if path.name != "plan.json":  # goes last: whose folder this is must be known until the end
                remove_ours(path)
        remove_ours(self.partial / "plan.json")

    def _check_ours(self) -> None:
        """Refuse a partial folder that no run made, or in which a link leads to files of others."""
        if self._is_empty():
            return
        plan = self._plan_in(self.partial)
        if not all(isinstance(plan.get(name), str) for name in ("digest", "kind", "method")):
            raise PlanError(f"{self.partial} is no run of palimpsest; move it, or give another --output")
        if (link := first_link(self.partial)) is not None:
            raise PlanError(f"{link} is a link, and no run makes one; move it, or give another --output")

    def _check_cleared(self) -> None:
        if names := foreign_in(self.partial):
            raise PlanError(
                f"{self.partial} is of a run that was rejected, and holds what is not of palimpsest "
                f"({', '.join(names[:4])}); move it, or give another --output"
            )

    def complete(self) -> None:
        """Bind the folder to what is in it, remove what only the run needed, and put it in its place.

        Whoever dies in between leaves a manifest by which the folder is known to be whole.
        """
        if os.path.lexists(self.folder):  # a rename would go over an empty folder
            raise PlanError(
                f"output {self.folder} was made by somebody else meanwhile; the finished run is in {self.partial}: "
                "move the other away, and the same command puts this one there"
            )
        check_held_still(self.partial)
        for path in temporaries_in(self.partial):
            path.unlink()
        write_manifest(self.partial, leave_out=ONLY_FOR_THE_RUN)
        for path in self.partial.iterdir():
            if path.name in ONLY_FOR_THE_RUN:
                remove_ours(path)
        put(self.partial, self.folder)

    @property
    def _no_run(self) -> str:
        return f"output {self.folder} exists and is no run of palimpsest; give a folder that does not exist"

    def _other_run(self, plan: AnyPlan) -> str:
        return f"output {self.folder} holds the run of {self._other(self.folder, plan)}; give another --output"

    def _other_unfinished(self, plan: AnyPlan) -> str:
        return (
            f"{self.partial} is an unfinished run of {self._other(self.partial, plan)}; finish that one, remove "
            f"it (`palimpsest clean {self.partial} --yes`), or give another --output"
        )

    def _other(self, folder: Path, plan: AnyPlan) -> str:
        """Another plan, and in what; or of another version, where nothing else differs."""
        known = plan.model_dump(mode="json", exclude=set() if plan.digests else READ_LATER)
        there = differing(self._plan_in(folder), known)
        return f"another plan (it differs in {there})" if there else f"another plan {OR_VERSION}"

    def _is_whole(self, plan: AnyPlan) -> bool:
        """Does the partial folder hold all that this plan's run was to leave, as it left it?"""
        if self._digest_in(self.partial) != plan.digest():
            return False
        found = changes_in(self.partial, leave_out=ONLY_FOR_THE_RUN)
        return found is not None and not any(found)

    def _is_run(self) -> bool:
        return (self.folder / "plan.json").is_file() and (self.folder / RESULT).is_file()

    def _is_empty(self) -> bool:
        """Did the process that made the partial folder die before it wrote the plan there?"""
        return self.partial.is_dir() and all(is_temporary(path) for path in self.partial.iterdir())

    def remember(self, name: str, compute: Callable[[], Measured]) -> Measured:
        """A measurement, taken from the partial folder if an interrupted run left it there."""
        path = self.partial / "remembered" / f"{name}.json"
        if path.is_file():
            try:
                return measured_of(read_sealed(path))
            except (ValueError, LookupError, TypeError, AttributeError):
                pass  # damaged: it is measured again
        value = compute()
        path.parent.mkdir(exist_ok=True)
        write_sealed(path, measured_json(value))
        return value

    @staticmethod
    def _plan_in(folder: Path) -> Mapping[str, Any]:
        return read_json_object(folder / PLAN)

    def _digest_in(self, folder: Path) -> str | None:
        """By its content: the digest that is written beside it may be another plan's."""
        return recorded_digest(self._plan_in(folder))

    def _asks_otherwise(self, folder: Path, plan: AnyPlan) -> bool:
        """Does the plan that lies there differ in what was chosen? What was read, and from where, is left out."""
        there, chosen = self._plan_in(folder), plan.model_dump(mode="json", exclude=READ_LATER)
        return any(name in there and there[name] != value for name, value in chosen.items())


def differing(one: Mapping[str, Any], other: Mapping[str, Any], most: int = 4) -> str:
    """Options in which two plans differ, by name.

    >>> differing({"training": {"seed": 0}, "method": "icu"}, {"training": {"seed": 1}, "method": "icu"})
    'training.seed'
    """
    found: list[str] = []
    for name in sorted((one.keys() & other.keys()) - PLACES):
        mine, theirs = one[name], other[name]
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            # What was not resolved yet, such as digests of rows not read, is no difference.
            found += [f"{name}.{key}" for key in sorted(mine.keys() & theirs.keys()) if mine[key] != theirs[key]]
        elif mine != theirs:
            found.append(name)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
