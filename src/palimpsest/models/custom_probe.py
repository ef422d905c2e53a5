"""What a module answers to a few made-up examples: is it what it was said to be? Its copy is asked, never itself.

Shape legend: B examples, T tokens, C channels, H height, W width, V outputs (tokens or classes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from palimpsest.errors import ModelError
from palimpsest.models.at_hand import CustomFacts
from palimpsest.models.custom import copied, logits_in, said_of_tokens
from palimpsest.models.hooked import hooked
from palimpsest.models.modes import asked

EXAMPLES, TOKENS = 2, 6
_SAME = 1e-4  # of the largest logit; other kernels for other lengths differ by rounding


def check_weights_are_there(module: nn.Module) -> None:
    """Refuse modules without weights, or with some that are not in memory.

    Raises:
        ModelError: they are.
    """
    name = type(module).__name__
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    if next(module.parameters(), None) is None:
        raise ModelError(f"module {name} has no parameters; accepted: one that can learn")
    for tensor_name, tensor in tensors.items():
        if is_lazy(tensor):
            raise ModelError(f"module {name}: {tensor_name} has no shape yet; call the module once before")
        if tensor.is_meta:
            raise ModelError(
                f"module {name}: {tensor_name} is on the meta device and holds no numbers; accepted: a module with its "
                "weights, on a CPU or an accelerator"
            )


def probed(module: nn.Module, facts: CustomFacts) -> CustomFacts:
    """Ask a copy of a module, compare with what was said of it, and find its head.

    Args:
        module: the caller's; only copied.
        facts: as stated.

    Returns:
        The facts with the head.

    Raises:
        ModelError: it does not take such examples, or answers something else.
    """
    check_weights_are_there(module)
    strangers = [name for name, value in module.state_dict().items() if not isinstance(value, Tensor)]
    if strangers:
        raise ModelError(
            f"module {type(module).__name__}: {strangers[0]} is no tensor and cannot be saved; take it out"
        )
    twin = copied(module)
    is_text = facts.image_size is None
    given = _tokens(facts) if is_text else _images(facts)
    given = given.to(next(twin.parameters()).device)
    with asked(twin), torch.random.fork_rng(), _watched(twin, facts.num_outputs) as last:
        logits = _answer(twin, given, facts)
        head = last.get("name")
        again = _answer(twin, given, facts)
        _check_shape(logits, given, facts)
        _check_repeats(logits, again)
        if is_text:
            _check_causal(logits, _answer(twin, _ending_otherwise(given, facts), facts))
    return replace(facts, head=head)


def _images(facts: CustomFacts) -> Tensor:
    height, width = facts.image_size or (1, 1)
    return torch.linspace(-1, 1, EXAMPLES * len(facts.image_mean) * height * width).reshape(
        EXAMPLES, len(facts.image_mean), height, width
    )


def _tokens(facts: CustomFacts) -> Tensor:
    length = min(TOKENS, facts.max_length or TOKENS)
    return torch.arange(EXAMPLES * length).reshape(EXAMPLES, length) % facts.num_outputs


def _ending_otherwise(tokens_BT: Tensor, facts: CustomFacts) -> Tensor:
    changed_BT = tokens_BT.clone()
    changed_BT[:, -1] = (changed_BT[:, -1] + 1) % facts.num_outputs
    return changed_BT


@contextmanager
def _watched(module: nn.Module, num_outputs: int) -> Iterator[dict[str, str]]:
    """Which linear layer with so many outputs is called last?"""
    last: dict[str, str] = {}

    def watch(name: str) -> Any:
        def seen(*_: Any) -> None:
            last["name"] = name

        return seen

    layers = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    with hooked(m.register_forward_hook(watch(n)) for n, m in layers.items() if m.out_features == num_outputs):
        yield last


def _answer(module: nn.Module, given: Tensor, facts: CustomFacts) -> Tensor:
    shape = _shape(given)
    what = f"token ids {shape}" if facts.image_size is None else f"images {shape} in fp32"
    try:
        if facts.image_size is None:
            return said_of_tokens(module, given, torch.ones_like(given))
        return logits_in(module(given))
    except ModelError:
        raise
    except Exception as error:  # whatever the caller's code raises
        first = " ".join(str(error).split())[:200]
        cure = "num_outputs and max_length" if facts.image_size is None else "image_size, image_mean and image_std"
        raise ModelError(
            f"module {type(module).__name__} does not take {what} ({type(error).__name__}: {first}); {cure} say what "
            "it is given"
        ) from error


def _check_shape(logits: Tensor, given: Tensor, facts: CustomFacts) -> None:
    expected = (*given.shape, facts.num_outputs) if facts.image_size is None else (len(given), facts.num_outputs)
    if logits.shape != expected or not logits.is_floating_point():
        raise ModelError(
            f"num_outputs is {facts.num_outputs}, and the module answers {_shape(given)} by {_shape(logits)} "
            f"{str(logits.dtype).removeprefix('torch.')}; accepted: logits {' x '.join(map(str, expected))}"
        )


def _check_repeats(logits: Tensor, again: Tensor) -> None:
    if not torch.equal(logits, again) and not bool(logits.isnan().any()):
        raise ModelError(
            "the module answers the same examples otherwise each time, in eval mode too; accepted: a module whose "
            "dropout and the like heed module.training"
        )


def _check_causal(logits_BTV: Tensor, other_BTV: Tensor) -> None:
    gap = (logits_BTV - other_BTV)[:, :-1].abs().max()
    if gap > _SAME * logits_BTV.abs().max():
        raise ModelError(
            "what the module says of a token depends on later tokens; accepted: a causal LM, which sees earlier ones "
            "alone"
        )


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
