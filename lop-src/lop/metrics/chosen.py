"""Which diagnostics a dashboard measures, and with which options: from names and sections to functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lop.metrics.registry import CORE, METRICS, Metric
from lop.utils.errors import UserError, lookup
from lop.utils.options import check_options, default_options

Extra = str | dict[str, Any]
"""A diagnostic by name, or a section: its name with its own options beside it."""


@dataclass(frozen=True)
class Chosen:
    """A diagnostic and the options it is computed with. place: where it was asked for, for messages."""

    metric: Metric
    options: dict[str, Any]
    place: str = "extras"


def chosen(extras: Sequence[Extra]) -> list[Chosen]:
    """The core diagnostics, then the extras in their order, each followed by its companions.

    A core one may be among the extras, to give it options. Companions take the options that they share with the one
    that brings them. Raises UserError for an unknown name or option, a wrong value, and a name with options twice.
    """
    found = {name: Chosen(METRICS[name], {}) for name in CORE}
    asked = [_section(f"extras.{i}", extra) for i, extra in enumerate(extras)]
    for one in asked:
        name = one.metric.name
        others = [other for other in asked if other.metric.name == name]
        if any(other.options != one.options for other in others):
            raise UserError(f"{name!r} is asked for twice, with different options", option=one.place, joint=": ")
        found[name] = one
        for companion in one.metric.companions:
            known = METRICS[companion].options
            shared = {option: value for option, value in one.options.items() if option in known}
            found.setdefault(companion, Chosen(METRICS[companion], shared, one.place))
    return list(found.values())


def checked_extras(extras: Sequence[Extra]) -> list[Extra]:
    """As a config has them: with their options checked, without those that are the default, a bare name for none."""
    found: list[Extra] = []
    for one in (_section(f"extras.{i}", extra) for i, extra in enumerate(extras)):
        defaults = default_options(one.metric.options)
        options = {name: value for name, value in one.options.items() if value != defaults.get(name, ...)}
        found.append({"name": one.metric.name, **options} if options else one.metric.name)
    return found


def _section(place: str, extra: Extra) -> Chosen:
    options = {} if isinstance(extra, str) else dict(extra)
    name = extra if isinstance(extra, str) else options.pop("name", None)
    if not isinstance(name, str):
        raise UserError("expected a diagnostic's name, or a section with its name", option=place, joint=": ")
    try:
        metric = lookup(METRICS, name, "diagnostic")
    except UserError as error:
        raise error.within(place) from None
    return Chosen(metric, check_options(place, metric.options, options), place)
