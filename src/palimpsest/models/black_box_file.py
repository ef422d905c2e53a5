"""``blackbox.json``: what is known of a model that is held by somebody else. Read without torch.

    {"url": "https://host/probs", "labels": ["cat", "dog"], "image_size": [16, 16], "image_mean": [0.5],
     "image_std": [0.5], "price_per_query": 0.001, "budget": 40000, "auth_env": "MY_TOKEN"}
    {"kind": "causal_lm", "url": "https://host/logprobs", "vocabulary": 32000, "tokenizer": "LM/"}

Each kind has fields of its own (``black_boxes/``). The credential is never in it: ``auth_env`` is the name of an
environment variable. A version that was made behind an endpoint holds the same fields in the ``config.json`` of its
base, with the answers to the probes of its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from palimpsest.errors import ModelError, unknown
from palimpsest.models.black_boxes import DEFAULT, box_named
from palimpsest.models.black_boxes.box import BlackBoxFacts
from palimpsest.models.plain import read_json_object

BLACK_BOX = "palimpsest_black_box"
"""The model_type of such a model."""
_SUFFIX = ".json"


def facts_from(values: Mapping[str, Any], where: str | Path) -> BlackBoxFacts:
    """The facts that a mapping says; keys of a transformers config beside them are left out.

    Raises:
        ModelError: the first that cannot be.
    """
    try:
        schema = box_named(values.get("kind", DEFAULT)).Facts
        return schema.model_validate(dict(values))
    except ModelError as error:
        raise ModelError(f"model {where}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        if first["type"] == "extra_forbidden":
            raise ModelError(f"model {where}: {unknown('field', place, schema.model_fields)}") from None
        said = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"model {where}: {place} cannot be used: {said}") from None


def black_box_in(source: str | Path) -> Path | None:
    """The file that describes a black box, where a source names one: any .json file."""
    path = Path(source).expanduser()
    return path if path.suffix == _SUFFIX and path.is_file() else None


def config_of_black_box(file: Path) -> Mapping[str, Any]:
    """The config of the model that a file describes, as a folder of it would have it.

    Raises:
        ModelError: the file describes none.
    """
    values = read_json_object(file)
    if not values:
        raise ModelError(f"model {file}: no JSON object; accepted: kind, url and what else a black box has")
    return as_config(facts_from(values, file))


def as_config(facts: BlackBoxFacts) -> dict[str, Any]:
    """The facts as keys of a config.json."""
    said = facts.model_dump(mode="json")
    names = {str(number): name for number, name in enumerate(said.pop("labels", ()))}
    return {"model_type": BLACK_BOX, "asked": said} | ({"id2label": names} if names else {})


def kind_in(config: Mapping[str, Any]) -> str:
    """The kind of black box that a config is of."""
    said = config.get("asked")
    return str(said.get("kind", DEFAULT)) if isinstance(said, Mapping) else DEFAULT


def facts_in(config: Mapping[str, Any], where: str | Path) -> BlackBoxFacts:
    """The facts in a config of a black box.

    Raises:
        ModelError: it holds none.
    """
    said, names = config.get("asked"), config.get("id2label")
    if not isinstance(said, Mapping) or ("labels" in _fields_of(said) and not isinstance(names, Mapping)):
        raise ModelError(f"model {where}: its config does not say how the black box is asked; copy it again")
    if "labels" not in _fields_of(said) or names is None:
        return facts_from(said, where)
    return facts_from({**said, "labels": [names[key] for key in sorted(names, key=int)]}, where)


def _fields_of(said: Mapping[str, Any]) -> Mapping[str, Any]:
    return box_named(said.get("kind", DEFAULT)).Facts.model_fields
