"""Options of a bench where it gives none: the custom of each kind of model.

Images: SGD with momentum 0.9 and weight decay 5e-4 on a cosine, as everywhere for small residual networks; unlearning
at the learning rate and length of fine-tuning in SFR-on's CIFAR-10 table. A learned image has a loss of nearly 0, so
ascent needs a large factor before its clip binds, and a clip that fits a small network (docs/log.md). Texts: AdamW.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from palimpsest.models.sources import family_of

_SGD = {"optimizer": "sgd", "weight_decay": 5e-4, "lr_scheduler_type": "cosine", "batch_size": 64, "max_grad_norm": 5.0}
IMAGE = MappingProxyType(
    {
        "learning": {"training": {**_SGD, "learning_rate": 0.05, "num_train_epochs": 20}},
        "unlearning": {"training": {**_SGD, "learning_rate": 0.01, "num_train_epochs": 10}},
        "methods": {
            "ug_clu": {"options": {"ascent": 500.0, "mask_batch": 32}},
            "sfr_on": {"options": {"fast_norm": 1.0, "mask_batch": 32}},
        },
    }
)
TEXT = MappingProxyType({"learning": {"training": {"learning_rate": 1e-3, "num_train_epochs": 20}}})


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a bench, over the defaults of its kind of model."""
    defaults = {"image": IMAGE}.get(family_of(str(values.get("model", ""))).takes, TEXT)
    return {**values, **{name: _over(sections, values.get(name, {})) for name, sections in defaults.items()}}


def _over(defaults: Any, given: Any) -> Any:
    """Given values over defaults, at every depth; what should be a mapping and is not is for the schema to refuse.

    >>> _over({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}, "b": 3})
    {'a': {'x': 1, 'y': 2}, 'b': 3}
    """
    if not isinstance(defaults, Mapping) or not isinstance(given, Mapping):
        return given
    return {**defaults, **{key: _over(defaults.get(key), value) for key, value in given.items()}}
