"""Palimpsest: keep a trained model alive under learning and unlearning, and show what was done.

>>> import palimpsest as pal
>>> pal.Example("p1", pal.Text("a fact"), subject="patient-1").subject
'patient-1'

All names are fetched on first use: importing this package imports no torch, and takes so little time that an
interruption of the command line is heard from the beginning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palimpsest.after_import import tell_transformers as _tell_transformers
from palimpsest.version import VERSION

if TYPE_CHECKING:
    from palimpsest.errors import (
        ClassError,
        DataError,
        DivergedError,
        EndpointError,
        FederationError,
        FrozenError,
        LostFolder,
        MissingExtra,
        ModelError,
        NothingToEdit,
        PalimpsestError,
        PlanError,
        RunError,
        SavedError,
        UsageError,
    )
    from palimpsest.records import Chat, Completion, Example, Image, Labelled, Message, Text, TokenIds
    from palimpsest.verbs.asked_function import BlackBox
    from palimpsest.verbs.calibrate import calibrate
    from palimpsest.verbs.clean import clean
    from palimpsest.verbs.export import export
    from palimpsest.verbs.harden import harden
    from palimpsest.verbs.in_memory import Model, Run
    from palimpsest.verbs.judge import judge
    from palimpsest.verbs.learn import learn
    from palimpsest.verbs.listed_parts import parts
    from palimpsest.verbs.measure import measure
    from palimpsest.verbs.unlearn import unlearn
    from palimpsest.verbs.update import update
    from palimpsest.verbs.verify import verify

__version__ = VERSION
_tell_transformers()  # nothing is imported: folders with parts are known to whoever loads one later

__all__ = [
    "BlackBox",
    "Chat",
    "ClassError",
    "Completion",
    "DataError",
    "DivergedError",
    "EndpointError",
    "Example",
    "FederationError",
    "FrozenError",
    "Image",
    "Labelled",
    "LostFolder",
    "Message",
    "MissingExtra",
    "Model",
    "ModelError",
    "NothingToEdit",
    "PalimpsestError",
    "PlanError",
    "Run",
    "RunError",
    "SavedError",
    "Text",
    "TokenIds",
    "UsageError",
    "__version__",
    "calibrate",
    "clean",
    "export",
    "harden",
    "judge",
    "learn",
    "measure",
    "parts",
    "unlearn",
    "update",
    "verify",
]

_HOMES = {
    "palimpsest.errors": (
        "ClassError",
        "DataError",
        "DivergedError",
        "EndpointError",
        "FederationError",
        "FrozenError",
        "LostFolder",
        "MissingExtra",
        "ModelError",
        "NothingToEdit",
        "PalimpsestError",
        "PlanError",
        "RunError",
        "SavedError",
        "UsageError",
    ),
    "palimpsest.records": ("Chat", "Completion", "Example", "Image", "Labelled", "Message", "Text", "TokenIds"),
    "palimpsest.verbs": (
        "calibrate",
        "clean",
        "export",
        "harden",
        "judge",
        "learn",
        "measure",
        "parts",
        "unlearn",
        "update",
        "verify",
    ),
    "palimpsest.verbs.asked_function": ("BlackBox",),
    "palimpsest.verbs.in_memory": ("Model", "Run"),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Fetch a name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
