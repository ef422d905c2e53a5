"""Tells transformers of the model type ``palimpsest`` as soon as it is imported. Imports nothing for it.

Versions with parts are folders of a type of their own (models/parts/parts_folder.py). With this, right after
``import palimpsest``, ``AutoModelForCausalLM.from_pretrained`` gives the model with its parts; without palimpsest it
refuses the folder. A finder at the head of ``sys.meta_path`` waits for two modules of transformers, has them found and
run as ever, and registers the type behind that; where they are there already the type is registered at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

_SHELL = "palimpsest.models.parts.shell"
_AUTO = "transformers.models.auto"
_THEN: Mapping[str, str] = MappingProxyType(
    {f"{_AUTO}.configuration_auto": "register_config", f"{_AUTO}.modeling_auto": "register_models"}
)
"""Module of transformers -> function of ours that is called with it once it was run."""


class _Waiting:
    """A finder that lets the others find, and has something done behind the two modules."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders give, for one of the two; None for any other."""
        if name not in _THEN:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            _follow(spec.loader)
        return spec


def _follow(loader: Any) -> None:
    """Have a loader, which is one module's own, register the type when it has run the module."""
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        _register(module)

    loader.exec_module = exec_module


def _register(module: ModuleType) -> None:
    """Call what belongs behind a module. A transformers that takes no registration refuses our folders as before."""
    then = _THEN.get(module.__name__)
    if then is None:
        return
    try:
        getattr(import_module(_SHELL), then)(module)
    except Exception as error:  # whatever changes there must not break other people's imports
        warnings.warn(f"transformers cannot load palimpsest's versions with parts here: {error}", stacklevel=2)


def tell_transformers() -> None:
    """Register the model type now or when transformers is imported; once is enough."""
    if not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())
    for name in _THEN:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _register(module)
