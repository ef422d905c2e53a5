"""``palimpsest methods`` and ``palimpsest metrics``: what is there, from the files themselves. No torch."""

from __future__ import annotations

import json as json_module
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest import derived, methods, metrics
from palimpsest.cli import options as o
from palimpsest.cli.option_rows import WIDTH, OptionRow, as_text, first_sentence, option_rows, written
from palimpsest.cli.saying import tell, tell_json
from palimpsest.method_card import KIND_WORDS

if TYPE_CHECKING:
    from palimpsest.method_card import Approach, MethodCard
    from palimpsest.metrics.metric import Metric

GROUPS = {
    "learn": "Learn (palimpsest learn)",
    "unlearn": "Unlearn (palimpsest unlearn)",
    "update": "Learn and unlearn in one run (palimpsest update, and each alone)",
    "yardstick": "To compare with: the gold standard, and a control",
}
APPROACH_WORDS: Mapping[Approach, str] = {
    "continual": "by rehearsing or holding on to what was learned before",
    "ascent": "by a loss against the rows themselves",
    "preference": "by preferring another answer",
    "relabelling": "by teaching other labels",
    "distillation": "by following a teacher that does not know",
    "representation": "by changing what the layers make of the rows",
    "editing": "by one edit, without steps",
    "modules": "by modules beside the weights, or folded into them",
    "history": "by what was kept while learning",
    "retraining": "by training again",
    "guard": "by standing in front: weights stay as they are, and removing it brings all back",
    "control": "as a control",
}
BOTH = ("text", "image")
_THESE_MEAN = "both: texts and images; labels: images, and texts with classes. More: palimpsest methods NAME"

Name = Annotated[str | None, typer.Argument(help="Show this one with its options.")]


def methods_command(name: Name = None, json: o.Json = False) -> int:
    """List the methods by what they do, or show one."""
    cards = {n: methods.card(n) for n in ([name] if name else methods.names())}
    if json:
        tell_json(json_module.dumps({n: method_values(card) for n, card in cards.items()}, indent=1))
    else:
        tell(_method(cards[name]) if name else _methods(cards.values()))
    return 0


def metrics_command(name: Name = None, json: o.Json = False) -> int:
    """List the metrics and what they mean, or show one."""
    found = {n: metrics.load(n) for n in ([name] if name else metrics.names())}
    if json:
        tell_json(json_module.dumps({n: _metric_values(metric) for n, metric in found.items()}, indent=1))
    else:
        shown = [_metric(n, metric, whole=name is not None) for n, metric in found.items()]
        tell("\n\n".join([*shown, *([] if name else _of_benches())]))
    return 0


def group_of(card: MethodCard) -> str:
    """Key of ``GROUPS`` under which a method is listed."""
    if card.yardstick:
        return "yardstick"
    return "update" if "update" in card.kinds else "learn" if "learn" in card.kinds else "unlearn"


def _methods(cards: Iterable[MethodCard]) -> str:
    lines: list[str] = []
    listed = list(cards)
    for key, heading in GROUPS.items():
        lines += [*([""] if lines else []), heading]
        lines += _by_approach([card for card in listed if group_of(card) == key])
    return "\n".join([*lines, "", _THESE_MEAN])


def _by_approach(cards: Sequence[MethodCard]) -> Iterator[str]:
    """Lines of some methods, under how they work where they differ in it."""
    ways = [way for way in APPROACH_WORDS if any(card.approach == way for card in cards)]
    for way in ways:
        if len(ways) > 1:
            yield f" {APPROACH_WORDS[way]}:"
        yield from (_line(card) for card in cards if card.approach == way)


def _line(card: MethodCard) -> str:
    """Name, what it works on, and when to use it: the first sentence, or of a method without one what it is."""
    on = _in_a_word(methods.works_on(card))
    use = f"use when {first_sentence(card.use_when)}" if card.use_when else card.about.splitlines()[0]
    return f"  {card.name:15} {on:7}{use}"


def _in_a_word(kinds: Collection[str]) -> str:
    if set(BOTH) <= set(kinds):
        return "both"
    if "text" in kinds:
        return KIND_WORDS["text"]
    return "labels" if "labels" in kinds else KIND_WORDS[next(iter(kinds))]


def _method(card: MethodCard) -> str:
    kinds = ", ".join(card.kinds)
    uses = f" Use when {card.use_when}" if card.use_when else ""
    said = [
        *textwrap.wrap(uses.strip(), WIDTH),
        "",
        f"does      {kinds}; {_listed(methods.works_on(card))}",
        f"works     {APPROACH_WORDS[card.approach]}",
        f"needs     {_needs(card)}",
        f"may use   {_uses(card)}",
        *textwrap.wrap(_training(card), WIDTH, initial_indent="training  ", subsequent_indent=" " * 10),
    ]
    options = as_text(method_rows(card)) or "  none"
    return "\n".join([card.name, "", *said, "", card.about, "", "options", options])


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(words for kind, words in KIND_WORDS.items() if kind in kinds)


def _needs(card: MethodCard) -> str:
    made = derived.of_needs(card.needs)
    sets = [f"{name} ({derived.load(name).about})" if name in made else name for name in card.needs]
    sets += [" or ".join(group) for group in card.one_of]
    sets += ["the base model"] if card.starts_from == "base" else []
    return "; ".join([*sets, *(f"a model that learned with --record {kind}" for kind in card.reads)]) or "no set"


def _uses(card: MethodCard) -> str:
    """Further sets, and what takes their place."""
    said = [f"{n} (else {derived.load(card.instead[n]).about})" if n in card.instead else n for n in card.uses]
    return ", ".join(said) or "no other set"


def _training(card: MethodCard) -> str:
    """Training options that differ from the general ones, and when they hold."""
    if card.edits:
        return "none: it edits the weights and takes no steps"
    return _own_schedule(card) if card.own_schedule else _found(card)


def _own_schedule(card: MethodCard) -> str:
    if card.sharded:
        return f"at its own length, {_pairs(card.defaults)}; to unlearn, as it learned"
    return f"at its own length, {_pairs(card.defaults)}; with --set control.kind=auto a run finds its own rate"


def _found(card: MethodCard) -> str:
    from palimpsest.engine.chosen_control import FIXES_THE_RATE

    fixed = _pairs({k: v for k, v in card.defaults.items() if k in FIXES_THE_RATE and k != "learning_rate"})
    always = _pairs({k: v for k, v in card.defaults.items() if k not in FIXES_THE_RATE})
    rate = card.defaults.get("learning_rate")
    paper = "" if rate is None else f"--preset paper (learning_rate {written(rate)}) or "
    found = f"a run finds its own rate unless {paper}--lr is given{f', then {fixed}' if fixed else ''}"
    return f"{found}; always {always}" if always else found


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {written(value)}" for key, value in values.items())


def method_rows(card: MethodCard) -> list[OptionRow]:
    """The options of a method."""
    depends = {name: f"{written(v)} for images, unless a rate is given" for name, v in card.options_for_images.items()}
    return option_rows(card.schema, card.name, depends)


def method_values(card: MethodCard) -> dict[str, Any]:
    """All of a card, as JSON has it."""
    return {
        "about": card.about,
        "use_when": card.use_when,
        "group": group_of(card),
        "approach": card.approach,
        "kinds": list(card.kinds),
        "modalities": list(methods.works_on(card)),
        "needs": list(card.needs),
        "one_of": [list(group) for group in card.one_of],
        "uses": list(card.uses),
        "instead": dict(card.instead),
        "starts_from": card.starts_from,
        "edits": card.edits,
        "reads": list(card.reads),
        "training": dict(card.defaults),
        "options": {row.name: row.values() for row in method_rows(card)},
    }


def _metric(name: str, metric: type[Metric], *, whole: bool) -> str:
    on = _listed(metric.modalities)
    lines = [f"{name:10}{metric.means}", f"{'':10}{metric.unit}; {metric.direction}; {on}"]
    if whole:
        asked = ", ".join(sorted(ask.value for ask in metric.asks))
        lines += [
            "",
            _about(metric),
            "",
            f"asks for  {asked}",
            "",
            "options",
            as_text(option_rows(metric.Config, name)) or "  none",
        ]
    return "\n".join(lines)


def _of_benches() -> list[str]:
    """What a bench adds: metrics of several sets and of a stream, under the heads of their columns."""
    from palimpsest.metrics.per_set import set_metric, set_metric_names
    from palimpsest.metrics.per_stream import stream_metrics

    of_sets = {metric.column: metric.means for metric in map(set_metric, set_metric_names())}
    of_streams = {metric.column: metric.means for metric in stream_metrics()}
    tiers = {"In a bench, of several sets": of_sets, "In a bench, of a whole stream": of_streams}
    return [
        "\n".join([title, *(f"  {name:12}{about}" for name, about in tier.items())]) for title, tier in tiers.items()
    ]


def _metric_values(metric: type[Metric]) -> Mapping[str, Any]:
    return {
        "about": _about(metric),
        "means": metric.means,
        "unit": metric.unit,
        "direction": metric.direction,
        "modalities": list(metric.modalities),
        "asks": sorted(ask.name.lower() for ask in metric.asks),
        "options": {row.name: row.values() for row in option_rows(metric.Config, "metric")},
    }


def _about(metric: type[Metric]) -> str:
    import sys

    return (sys.modules[metric.__module__].__doc__ or "").strip()
