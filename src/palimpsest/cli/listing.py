"""``palimpsest methods`` and ``palimpsest metrics``: what is there, from the files themselves."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from palimpsest import methods, metrics
from palimpsest.cli import options as o

Name = Annotated[str | None, typer.Argument(help="Show this one with its options.")]


def methods_command(name: Name = None, json: o.Json = False) -> int:
    """List the methods, or one with its source and options."""
    _show({n: methods.load(n) for n in ([name] if name else methods.names())}, detailed=name is not None, as_json=json)
    return 0


def metrics_command(name: Name = None, json: o.Json = False) -> int:
    """List the metrics, or one with its source and options."""
    _show({n: metrics.load(n) for n in ([name] if name else metrics.names())}, detailed=name is not None, as_json=json)
    return 0


def _show(found: dict[str, Any], *, detailed: bool, as_json: bool) -> None:
    if as_json:
        print(json_module.dumps({n: {"about": _about(c), "options": _options(c)} for n, c in found.items()}, indent=1))
    elif detailed:
        for name, item in found.items():
            print(f"{name}\n\n{_about(item)}\n")
            for option, field in _options(item).items():
                print(f"  {name}.{option} = {field['default']}\n      {field['about']}")
    else:
        for name, item in found.items():
            print(f"{name:18}{_about(item).splitlines()[0]}")


def _about(item: Any) -> str:
    import sys

    return (
        (sys.modules[item.__module__].__doc__ or "").strip() if item.__module__ in sys.modules else item.__doc__ or ""
    )


def _options(item: Any) -> dict[str, dict[str, Any]]:
    return {
        option: {"default": field.default, "about": " ".join((field.description or "").split())}
        for option, field in item.Config.model_fields.items()
    }
