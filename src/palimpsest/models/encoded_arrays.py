"""Arrays of float32 as text, in the JSON of a request."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np


def encoded(values: np.ndarray) -> dict[str, Any]:
    """An array as JSON: its shape, and base64 of little-endian float32.

    >>> decoded(encoded(np.array([[0.5, -1.0]]))).tolist()
    [[0.5, -1.0]]
    """
    raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return {"shape": list(values.shape), "inputs": base64.b64encode(raw).decode("ascii")}


def decoded(said: Mapping[str, Any]) -> np.ndarray:
    """Inverse of ``encoded``.

    Raises:
        ValueError, KeyError, TypeError: it is none, or of another shape.
    """
    flat = np.frombuffer(base64.b64decode(said["inputs"], validate=True), dtype="<f4")
    return flat.reshape(tuple(said["shape"])).astype(np.float32)
