"""What a kind of black box must provide, and what is known of any of them. Nothing here imports torch.

Shape legend: B rows of a request.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from pydantic import ConfigDict, Field, field_validator, model_validator

from palimpsest.chosen import Chosen
from palimpsest.errors import EndpointError, ModelError
from palimpsest.records import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from palimpsest.models.families.family import Family
    from palimpsest.models.loaded import Loaded

Numbers = tuple[float, ...]
"""Of one question, as a ledger keeps it."""
NUM_PROBES = 16
"""Questions that are asked once in a run, by whose answers a model that changed shows."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class BlackBoxFacts(Chosen):
    """What is known of any model behind an endpoint, and how it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    IDENTITY: ClassVar[tuple[str, ...]] = ("url",)
    """Fields that say what it is said to be."""

    kind: str
    """Name of a ``Box``."""
    url: str = ""
    """Where it is asked, http or https."""
    function: str = ""
    """Name of the function of Python that is asked instead."""
    price_per_query: float = Field(default=0.0, ge=0)
    """Of one row, in any currency."""
    budget: int | None = Field(default=None, ge=1)
    """Queries of one run at most; needed where they cost anything."""
    auth_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable whose value is sent as a bearer token."""
    batch_size: int = Field(default=256, ge=1, le=100_000)
    """Rows of one request at most."""
    timeout: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds to wait for an answer."""
    retries: int = Field(default=5, ge=0, le=100)
    """Further tries after a time-out, a refused connection, or an answer 429, 500, 502, 503 or 504."""
    wait: float = Field(default=0.5, ge=0)
    """Seconds before the first further try; twice as long before each next one, or as Retry-After says."""

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not all("!" <= one <= "~" for one in url):
            raise ValueError("accepted: ASCII without blanks; write other signs of a path as %XX, of a host as xn--")
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("accepted: http://HOST:PORT/PATH or https://...")
        _ = parts.port  # raises where it is none
        if parts.username is not None or parts.password is not None:
            raise ValueError("it holds a credential; name an environment variable in auth_env instead")
        return url

    @model_validator(mode="after")
    def _can_be_paid(self) -> BlackBoxFacts:
        if bool(self.url) == bool(self.function):
            raise ValueError("one of url and function says where it is asked")
        if self.price_per_query and self.budget is None:
            raise ValueError("queries cost something, so budget must say how many there may be")
        host = urlsplit(self.url)
        if self.auth_env and host.scheme == "http" and host.hostname not in _LOOPBACK:
            raise ValueError("a credential would be sent unencrypted; accepted: https, or http on this machine")
        return self

    @property
    def where(self) -> str:
        """Address, or name of the function."""
        return self.url or self.function

    @property
    def box(self) -> Box:
        """The kind of black box that it is."""
        from palimpsest.models.black_boxes import box_named

        return box_named(self.kind)

    @cached_property
    def identity(self) -> str:
        """Digest of what it is said to be: not of how it is asked, what it costs or by which credential."""
        said, asked = self.model_dump(mode="json"), ("function",) if self.function else ()
        return digest({name: said[name] for name in (*self.IDENTITY, *asked)})

    @property
    def source_digest(self) -> str:
        """Of that, and of what on this side decides what is asked; default: nothing does."""
        return self.identity

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

    def unusable(self, what: str) -> EndpointError:
        """The refusal of an answer."""
        return EndpointError(f"the answer of {self.where} cannot be used: {what}")


class Box:
    """One kind of black box. Subclass it in a file of this folder, which sets ``BOX`` and is listed in ``all_boxes``.

    A *question* is one row of what a model is given, in a form of the kind's own; an *answer* is a tuple of numbers.

    Class attributes:
        name: in the field ``kind`` of a description.
        family: models of this kind, as methods and metrics know them (``families/asked_family.py``).
        Facts: of a description; a ``BlackBoxFacts``.
        main_input: name of the argument of a model's forward that is asked about.
        reads_tokens: is what it is asked token ids? Then a part can look at them for nothing (``token_reader.py``).
    """

    name: ClassVar[str]
    family: ClassVar[Family]
    Facts: ClassVar[type[BlackBoxFacts]]
    main_input: ClassVar[str]
    reads_tokens: ClassVar[bool] = False

    def config(self, facts: Any) -> dict[str, Any]:
        """Keys of a transformers config that say what the facts say."""
        return {}

    def probes(self, facts: Any) -> Sequence[Any]:
        """``NUM_PROBES`` questions, the same for every model of the same facts."""
        raise NotImplementedError

    def check_probes(self, answers: Sequence[Numbers], facts: Any) -> None:
        """Refuse answers to the probes that no model gives; default: one may give any.

        Raises:
            EndpointError: by ``facts.unusable``.
        """

    def digest(self, question: Any) -> str:
        """SHA-256 over a question."""
        raise NotImplementedError

    def content(self, questions: Sequence[Any]) -> dict[str, Any]:
        """B questions as JSON."""
        raise NotImplementedError

    def read(self, values: Mapping[str, Any], questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """The answers in a JSON object.

        Raises:
            EndpointError: it does not hold them; by ``facts.unusable``.
        """
        raise NotImplementedError

    def compared(self, answer: Numbers) -> Numbers:
        """What of an answer must come again; probabilities."""
        return answer

    def questions_of(self, given: Mapping[str, Any], facts: Any) -> Sequence[Any]:
        """What a forward pass is given, as questions."""
        raise NotImplementedError

    def logits_of(self, answers: Sequence[Numbers], given: Mapping[str, Any], facts: Any) -> Tensor:
        """Answers to them as the output of a forward pass, on the CPU."""
        raise NotImplementedError

    def asked_of_function(self, questions: Sequence[Any]) -> tuple[Any, ...]:
        """What a function of Python is called with in the place of an endpoint."""
        raise NotImplementedError

    def read_of_function(self, said: Any, questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """What it answered.

        Raises:
            EndpointError: it is no answer.
        """
        raise NotImplementedError

    def serves(self, loaded: Loaded) -> bool:
        """Can a local model be served as one of this kind?"""
        raise NotImplementedError

    def described(self, loaded: Loaded) -> dict[str, Any]:
        """Fields of a description of a local model that is served, but for ``url`` and ``kind``."""
        raise NotImplementedError

    def answered(self, values: Mapping[str, Any], loaded: Loaded) -> tuple[dict[str, Any], int]:
        """What is answered to a request, by a local model, and the number of its rows.

        Raises:
            ValueError, KeyError, TypeError: it is no request.
        """
        raise NotImplementedError


def question_digest(shape: Any, *arrays: np.ndarray) -> str:
    """SHA-256 over arrays, little-endian, behind what says their shapes."""
    said = [np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes() for array in arrays]
    return hashlib.sha256(f"{shape}".encode() + b"".join(said)).hexdigest()


def rows_of_numbers(values: Any, facts: BlackBoxFacts, name: str) -> list[Numbers]:
    """A list of lists of numbers in an answer.

    Raises:
        EndpointError: it is none, or one of them is not a number.
    """
    try:
        found = [tuple(map(float, _listed(row))) for row in _listed(values)]
    except (TypeError, ValueError, OverflowError):  # JSON has integers of any size
        raise facts.unusable(f"{name} is no list of lists of numbers") from None
    if not all(np.isfinite(row).all() for row in map(np.asarray, found)):
        raise facts.unusable(f"one of {name} is not a number")
    return found


def _listed(values: Any) -> Any:
    """Values in an order: the keys of an object {"0": p, ...} or the digits of a text would be numbers, too."""
    if hasattr(values, "tolist") or (isinstance(values, Sequence) and not isinstance(values, str | bytes)):
        return values
    raise TypeError(type(values).__name__)


def device_of(model: nn.Module) -> Any:
    """Where a model is."""
    return next(model.parameters()).device
