"""Does the size that a configuration asks for fit the files of weights?

A model is built before they are laid into it: a million layers, or a width of a billion, would take minutes and all
memory before anything could be found missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError
from palimpsest.untrusted import parse_json

RATES = ("dropout", "pdrop", "_drop", "dropout_prob", "dropout_rate", "drop_path_rate")
"""Endings of the names of rates of dropout."""
LARGEST_HEADER = 100_000_000  # bytes; the format's own bound
LAYERS = frozenset(
    {
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "n_layers",
        "num_decoder_layers",
        "encoder_layers",
        "decoder_layers",
        "depth",
    }
)
"""Options of configurations that say how many modules there are, each with a tensor of its own."""
EXPERTS = frozenset(["num_local_experts", "num_experts", "n_routed_experts"])
FREE_EXPERTS = 2**15
"""Always taken: configurations of dense models name experts, too (Doge's 16,384), which nothing then reads."""
WIDTHS = frozenset(
    {
        "hidden_size",
        "vocab_size",
        "intermediate_size",
        "n_embd",
        "n_inner",
        "d_model",
        "d_ff",
        "dim",
        "hidden_dim",
        "ffn_dim",
        "embedding_size",
        "word_embed_proj_dim",
        "num_attention_heads",
        "num_key_value_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "head_dim",
        "state_size",
        "moe_intermediate_size",
        "num_labels",
    }
)
"""Those that are a dimension of some tensor, or a part of one."""
ROOM = 16
"""Times what the files hold: layers may share their weights, and some options are read by no layer of a model."""
MOST_PLACES = 100_000_000
"""Of a text; tables of positions are made from the configuration."""
_PLACES = frozenset(["max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"])


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in a safetensors file, from its header alone; empty where it has none."""
    try:
        return {name: list(map(int, entry["shape"])) for name, entry in _header(file).items()}
    except (ValueError, LookupError, TypeError):
        return {}


def tensor_kinds(file: Path) -> dict[str, str]:
    """Name -> kind of its numbers, such as "F32"; as ``tensor_shapes``."""
    try:
        return {name: str(entry["dtype"]) for name, entry in _header(file).items()}
    except (LookupError, TypeError):
        return {}


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of each tensor; empty where it says nothing."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = parse_json(stream.read(min(size, LARGEST_HEADER)).decode())
        return {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, AttributeError):
        return {}


def check_proportions(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration of sizes that no model with these weights can have.

    Args:
        folder: of a model.
        config: content of its config.json.

    Raises:
        ModelError: names the option, its value and what fits.
    """
    _check_shares(folder, config)
    shapes = _shapes_in(folder)
    if not shapes:  # the loader says what is wrong with the files
        return
    modules, width = ROOM * len(shapes), ROOM * max((max(shape, default=1) for shape in shapes), default=1)
    bounds = dict.fromkeys(LAYERS, modules) | dict.fromkeys(EXPERTS, max(modules, FREE_EXPERTS))
    bounds |= dict.fromkeys(WIDTHS, width) | dict.fromkeys(_PLACES, MOST_PLACES)
    for name, value in _sizes(config):
        if name in bounds and value > bounds[name]:
            raise ModelError(
                f"model {folder}: config.json has {name} = {str(value)[:40]}, and the {len(shapes)} tensors of its "
                f"weights are those of a far smaller model (at most {bounds[name]}); give the config.json that was "
                "saved with them"
            )


def _check_shares(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a rate of dropout that is none: most layers take any number, and fail at the first step of a run."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check_shares(folder, value)
        elif name.endswith(RATES) and isinstance(value, int | float) and not 0 <= value <= 1:
            raise ModelError(
                f"model {folder}: config.json has {name} = {str(value)[:40]}; accepted: a share between 0 and 1"
            )


def check_filled(folder: Path, config: Any) -> None:
    """The same of a configuration with all that its file leaves out, which is as large as the model it was named for.

    Args:
        folder: of a model.
        config: as transformers reads it.

    Raises:
        ModelError: says what does not fit.
    """
    shapes = _shapes_in(folder)
    text = config.get_text_config()
    width, layers = (getattr(text, name, None) for name in ("hidden_size", "num_hidden_layers"))
    if not (shapes and isinstance(width, int) and isinstance(layers, int)):
        return
    widest, held = max(max(shape, default=1) for shape in shapes), sum(math.prod(shape) for shape in shapes)
    if width > widest or layers * width**2 > ROOM * held:
        raise ModelError(
            f"model {folder}: its config.json means {layers} layers of width {width}, with what it leaves out, and its "
            f"weights are {held} numbers in tensors of at most {widest} rows; give the config.json saved with them"
        )


def _shapes_in(folder: Path) -> list[list[int]]:
    return [shape for file in folder.glob("*.safetensors") for shape in tensor_shapes(file).values()]


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Numbers of a configuration and of those inside it, e.g. the text_config of a model that also sees."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _sizes(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
