"""``blackbox.json``: what is known of a model that is held by somebody else. Read without torch.

    {"url": "https://host/probs", "labels": ["cat", "dog"], "image_size": [16, 16], "image_mean": [0.5],
     "image_std": [0.5], "price_per_query": 0.001, "budget": 40000, "auth_env": "MY_TOKEN"}

The credential is never in it: ``auth_env`` is the name of an environment variable. A version that was made behind an
endpoint holds the same fields in the ``config.json`` of its base, with the answers to the probes of its run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from palimpsest.chosen import Chosen
from palimpsest.errors import ModelError, unknown
from palimpsest.models.plain import read_json_object
from palimpsest.records import digest

BLACK_BOX = "palimpsest_black_box"
"""The model_type of such a model."""
_SUFFIX = ".json"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_IDENTITY = ("url", "function", "labels", "image_size", "image_mean", "image_std")
_SIDE = Annotated[int, Field(ge=1, le=10_000)]


class BlackBoxFacts(Chosen):
    """What is known of a classifier of images behind an endpoint or a function, and how it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    url: str = ""
    """Where it is asked, http or https; empty for a function of Python."""
    function: str = ""
    """Name of the function of Python that is asked instead."""
    labels: tuple[str, ...] = Field(min_length=2)
    """Its classes, in the order of its probabilities."""
    image_size: tuple[_SIDE, _SIDE]
    """Height and width of its images, pixels."""
    image_mean: tuple[float, ...] = (0.5,)
    """Subtracted from each channel of an image in [0, 1] before it is sent; one number per channel."""
    image_std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    """What the difference is divided by."""
    price_per_query: float = Field(default=0.0, ge=0)
    """Of one image, in any currency."""
    budget: int | None = Field(default=None, ge=1)
    """Queries of one run at most; needed where they cost anything."""
    auth_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable whose value is sent as a bearer token."""
    batch_size: int = Field(default=256, ge=1, le=100_000)
    """Images of one request at most."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for an answer."""
    retries: int = Field(default=5, ge=0, le=100)
    """Further tries after a time-out, a refused connection, or an answer 429, 500, 502, 503 or 504."""
    wait: float = Field(default=0.5, ge=0)
    """Seconds before the first further try; twice as long before each next one, or as Retry-After says."""

    @field_validator("image_size", mode="before")
    @classmethod
    def _both_sides(cls, size: Any) -> Any:
        return (size, size) if isinstance(size, int) else size

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("accepted: http://HOST:PORT/PATH or https://...")
        if parts.username is not None or parts.password is not None:
            raise ValueError("it holds a credential; name an environment variable in auth_env instead")
        return url

    @model_validator(mode="after")
    def _fits(self) -> BlackBoxFacts:
        if bool(self.url) == bool(self.function):
            raise ValueError("one of url and function says where it is asked")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("a label occurs twice")
        if len(self.image_mean) != len(self.image_std):
            raise ValueError("image_mean and image_std have as many numbers as the image has channels")
        if self.price_per_query and self.budget is None:
            raise ValueError("queries cost something, so budget must say how many there may be")
        host = urlsplit(self.url)
        if self.auth_env and host.scheme == "http" and host.hostname not in _LOOPBACK:
            raise ValueError("a credential would be sent unencrypted; accepted: https, or http on this machine")
        return self

    @property
    def identity(self) -> str:
        """Digest of what it is said to be: not of how it is asked, what it costs or by which credential."""
        return digest({name: self.model_dump(mode="json")[name] for name in _IDENTITY})

    def credential(self) -> str | None:
        """The bearer token, read anew each time and kept nowhere.

        Raises:
            ModelError: the variable is not set.
        """
        if self.auth_env is None:
            return None
        found = os.environ.get(self.auth_env, "")
        if not found:
            raise ModelError(
                f"the endpoint {self.url} wants a credential and the environment variable {self.auth_env} is not set"
            )
        return found


def facts_from(values: Mapping[str, Any], where: str | Path) -> BlackBoxFacts:
    """The facts that a mapping says; keys of a transformers config beside them are left out.

    Raises:
        ModelError: the first that cannot be.
    """
    try:
        return BlackBoxFacts.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        if first["type"] == "extra_forbidden":
            raise ModelError(f"model {where}: {unknown('field', place, BlackBoxFacts.model_fields)}") from None
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
        raise ModelError(f"model {file}: no JSON object; accepted: url, labels, image_size, ... of a black box")
    return as_config(facts_from(values, file))


def as_config(facts: BlackBoxFacts) -> dict[str, Any]:
    """The facts as keys of a config.json."""
    said = facts.model_dump(mode="json")
    names = {str(number): name for number, name in enumerate(said.pop("labels"))}
    return {"model_type": BLACK_BOX, "id2label": names, "asked": said}


def facts_in(config: Mapping[str, Any], where: str | Path) -> BlackBoxFacts:
    """The facts in a config of a black box.

    Raises:
        ModelError: it holds none.
    """
    said, names = config.get("asked"), config.get("id2label")
    if not isinstance(said, Mapping) or not isinstance(names, Mapping):
        raise ModelError(f"model {where}: its config does not say how the black box is asked; copy it again")
    ordered = [names[key] for key in sorted(names, key=int)]
    return facts_from({**said, "labels": ordered}, where)
