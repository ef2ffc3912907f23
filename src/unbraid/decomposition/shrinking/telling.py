"""Tell users what stayed whole in a smaller module, and which attributes changed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from unbraid.decomposition.shrinking.narrowing import Plan
from unbraid.errors import UnsupportedLayer, quoted, warn_caller
from unbraid.networks.pytorch.checking import BASE

notes = logging.getLogger("unbraid")

REGISTER = "register a recurrent cell that is written with linear layers by unbraid.register_cell"


def note(plan: Plan, own: Collection[str]) -> None:
    """Note the layers that keep all of their units or the size of their outputs, and changed attributes.

    Args:
        plan: which layers get smaller, before those without any change were removed from it.
        own: paths of registered cells whose results have no known expansion.
    """
    for path, reason in plan.reasons.items():
        what = "keeps all of its units" if path in own else "keeps the size of its outputs"
        notes.info("shrink: layer %r %s: %s", named(path), what, named(reason))
    for path, reason in plan.whole.items():
        notes.info("shrink: linear layer %r keeps all of its units: %s", path, named(reason))
    for (path, name), value in plan.attributes.items():
        notes.info("shrink: attribute %s is now %d", f"{path}.{name}".lstrip("."), value)


def note_wrapped(linears: Sequence[str]) -> None:
    """Note the hidden linear layers that style="wrapped" leaves as they are."""
    if linears:
        notes.info("shrink: linear layers %s keep all of their units: style='wrapped'", quoted(list(linears), 200))


def unchanged(plan: Plan) -> str:
    """Explain why a plan removes no units, with the first reason; empty if its size is the reason."""
    for path, reason in plan.whole.items():
        return f"layer {named(path)!r}: {named(reason)}; {REGISTER}"
    return next((f"layer {named(path)!r}: {named(reason)}" for path, reason in plan.reasons.items()), "")


def warn_whole(why: str) -> None:
    """Warn that no layer has fewer units."""
    warn_caller(f"shrink: no layer has fewer units, and the result is a copy of the module: {why}.")


def only_linears(module: object, linears: Sequence[str], cause: str) -> UnsupportedLayer:
    """Make the error for a module whose only layers with hidden units are linear ones, which a setting keeps whole."""
    return UnsupportedLayer(
        f"{type(module).__name__} has no recurrent layer, and {cause} keeps linear layers whole "
        f"({quoted(list(linears), 80)}): use style='auto' with layers='all', or {REGISTER}."
    )


def named(text: str) -> str:
    """Write a path, or a text with paths, without the names of layers that the library added."""
    return text.replace(f".{BASE}", "")
