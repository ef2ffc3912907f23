"""Instances of users' PyTorch modules for the parents of a folder without code: the argument ``module=``."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from unbraid.errors import ModuleNeeded, UnbraidError, quoted, wrong_object
from unbraid.networks.spec import needs_module
from unbraid.networks.torch_spec import TorchLayerSpec, TorchSpec
from unbraid.storage.manifest import Manifest, ParentEntry

SHOWN = 4  # largest number of parents in a message
LAYERS = 6  # largest number of layers and tables of a parent in a message


@dataclass(frozen=True)
class ParentFacts:
    """Stored facts about a parent network that is a PyTorch module. A factory for ``module=`` is called with them.

    Attributes:
        number: number of the parent in the folder, from 0.
        name: the ``name`` argument of :meth:`unbraid.Network.from_torch`, or None.
        class_name: name of the class of the module.
        layers: its recurrent layers, direction by direction. Each layer has ``name``, ``cell`` (with ``kind``),
            ``inputs`` and ``units``.
        embedding_rows: path of an nn.Embedding -> number of its rows; empty in folders of older versions.
        classes: number of columns of the output layer, C; None if it is not known.
        init: the ``init`` argument of :meth:`unbraid.Network.from_torch`, or None.

    Example:
        >>> facts = ParentFacts(0, "bank", "Intents", embedding_rows={"embed": 50}, classes=4, init={"words": 50})
        >>> print(facts)
        parent 0 'bank' (Intents): embed 50 rows, 4 classes
        >>> facts.call()
        'Intents(words=50)'
    """

    number: int
    name: str | None
    class_name: str
    layers: Sequence[TorchLayerSpec] = ()
    embedding_rows: Mapping[str, int] = field(default_factory=dict)
    classes: int | None = None
    init: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, number: int, entry: ParentEntry) -> ParentFacts:
        """Collect the facts of a parent whose spec is a TorchSpec."""
        spec, facts = entry.spec, entry.facts
        assert isinstance(spec, TorchSpec)
        tables = {} if facts is None else dict(facts.embedding_rows)
        name, init = (None, None) if facts is None else (facts.name, facts.init)
        return cls(number, name, spec.module, tuple(spec.layers), tables, spec.classes, init)

    def __str__(self) -> str:
        parts = [
            f"{quoted(v.cell.title, 40)} {quoted(v.name, 40)} {v.inputs} inputs {v.units} units" for v in self.layers
        ]
        parts += [f"{quoted(path, 40)} {rows} rows" for path, rows in self.embedding_rows.items()]
        more = [f"{len(parts) - LAYERS} more"] if len(parts) > LAYERS else []
        sizes = [*parts[:LAYERS], *more, *([] if self.classes is None else [f"{self.classes} classes"])]
        name = "" if self.name is None else f" {quoted(self.name, 40)!r}"
        return f"parent {self.number}{name} ({quoted(self.class_name, 60)}): {', '.join(sizes)}"

    def call(self, blank: str = "...") -> str:
        """Format the call of the constructor, with ``blank`` in place of arguments that are not stored."""
        name = python_name(self.class_name)
        if self.init is None:
            return f"{name}({blank})"
        if all(key.isidentifier() and not keyword.iskeyword(key) for key in self.init):
            return f"{name}({', '.join(f'{key}={value!r}' for key, value in self.init.items())})"
        return f"{name}(**{dict(self.init)!r})"


Factory = Callable[[ParentFacts], nn.Module]
OwnModule = nn.Module | Factory  # a class is a factory
OwnModules = OwnModule | Sequence[OwnModule] | Mapping[Any, OwnModule] | None  # keys are numbers and names


class ParentModules:
    """The instances for the parents of one folder.

    Args:
        manifest: content of ``unbraid.json``.
        folder: path of the folder, for messages.
        given: the argument ``module=``: an instance for all parents, a sequence in the order of the parents, a mapping
            keyed by number, name or class name, or a factory. A class is called with the stored ``init`` as keywords,
            any other callable with a :class:`ParentFacts`. Sequences and mappings may hold factories.
        codeless: whether to open parents without an instance without code.

    Raises:
        ArgumentError: ``given`` has another type.
        ModuleNeeded: there is no instance for a parent, or a sequence has another length.
    """

    def __init__(self, manifest: Manifest, folder: str, given: Any, codeless: bool = False) -> None:
        self._folder, self._kind = folder, manifest.kind
        self.facts = {
            number: ParentFacts.of(number, entry)
            for number, entry in enumerate(manifest.parents)
            if needs_module(entry.spec)
        }
        self._chosen: dict[int, OwnModule] = {}
        _check(given)
        if isinstance(given, Sequence) and self.facts and len(given) != len(self.facts):
            raise self.refusal(f"module= holds {len(given)} modules for {len(self.facts)} parents.")
        for place, (number, facts) in enumerate(self.facts.items()):
            chosen = given
            if isinstance(given, Sequence):
                chosen = given[place]
            elif isinstance(given, Mapping):
                chosen = self._by_key(given, facts)
            if chosen is not None:
                self._chosen[number] = chosen
            elif not codeless:
                raise self.refusal(self._missing(given, number))

    def instance(self, number: int) -> nn.Module | None:
        """Return an instance for a parent; None if it is opened without code.

        Raises:
            ModuleNeeded: a factory raises, or returns another type.
        """
        chosen = self._chosen.get(number)
        if chosen is None or isinstance(chosen, nn.Module):
            return chosen
        return made(chosen, self.facts[number], self.refusal)

    def refusal(self, reason: str) -> ModuleNeeded:
        """Make the error for instances that are missing or do not fit."""
        facts = list(self.facts.values())
        argument = quoted(needed_argument(facts), 400)
        call = f"unbraid.load_{self._kind}({quoted(repr(self._folder), 200)}, module={argument})"
        message = f"{quoted(self._folder)}: {reason} Call {call}. Stored: {described(facts)}."
        return ModuleNeeded(message, quoted(self._folder), reason, facts)

    def _by_key(self, given: Mapping[Any, OwnModule], facts: ParentFacts) -> OwnModule | None:
        """Return the value for a parent: by its number, by its name, or by a class name that is unique."""
        if facts.number in given:
            return given[facts.number]
        for names in ([f.name for f in self.facts.values()], [f.class_name for f in self.facts.values()]):
            own = names[list(self.facts).index(facts.number)]
            if own is not None and own in given:
                if names.count(own) > 1 and isinstance(given[own], nn.Module):
                    raise self.refusal(
                        f"module= has one instance for {quoted(own)!r}, but several parents have this name."
                    )
                return given[own]
        return None

    def _missing(self, given: Any, number: int) -> str:
        if given is None:
            one = len(self.facts) == 1
            parents = "its parent network is a PyTorch module" if one else "its parent networks are PyTorch modules"
            return f"{parents}, whose code is not stored."
        return f"module= has no instance for parent {number}; its keys are {quoted(list(given))}."


def made(factory: Any, facts: ParentFacts, refusal: Callable[[str], UnbraidError]) -> nn.Module:
    """Call a factory: a class with the stored ``init``, any other callable with the facts.

    Args:
        factory: a class, or another callable.
        facts: stored facts about the parent.
        refusal: makes the error for a reason.
    """
    is_class = isinstance(factory, type)
    name = quoted(getattr(factory, "__name__", type(factory).__name__), 60)
    try:
        found = factory(**(facts.init or {})) if is_class else factory(facts)
    except UnbraidError:
        raise
    except Exception as error:  # a user's code may raise any error
        detail = quoted((str(error).splitlines() or [""])[0])
        stored = ", which stores no arguments of its constructor (init)" if is_class and facts.init is None else ""
        raise refusal(
            f"module={name} raised {type(error).__name__} ({detail}) for parent {facts.number}{stored}."
        ) from error
    if not isinstance(found, nn.Module):
        raise refusal(
            f"module={name} returned {type(found).__name__} for parent {facts.number}, expected an nn.Module."
        )
    return found


def needed_argument(facts: Sequence[ParentFacts], blank: str = "...") -> str:
    """Format the value of ``module=`` that a folder needs.

    Args:
        facts: facts about its parents that are PyTorch modules.
        blank: text in place of constructor arguments that are not stored.
    """
    if all(one.init is not None for one in facts):
        values = [python_name(one.class_name) for one in facts]
        same = len(set(values)) == 1
    else:
        values = [one.call(blank) for one in facts]
        same = (
            len({(one.class_name, tuple(one.layers), tuple(one.embedding_rows.items()), one.classes) for one in facts})
            == 1
        )
    if same:
        return values[0]
    keys = _keys(facts)
    return f"{{{', '.join(f'{key!r}: {value}' for key, value in zip(keys, values, strict=True))}}}"


def described(facts: Sequence[ParentFacts]) -> str:
    """Describe the first parents in one line."""
    more = f"; and {len(facts) - SHOWN} more" if len(facts) > SHOWN else ""
    return quoted(f"{'; '.join(str(one) for one in facts[:SHOWN])}{more}", 500)


def python_name(class_name: str) -> str:
    """Return a class name as Python code; ``YourModule`` for an invalid name."""
    return class_name if class_name.isidentifier() and class_name.isascii() else "YourModule"


def _keys(facts: Sequence[ParentFacts]) -> list[Any]:
    """Return the names of the parents if all are different, else their numbers."""
    names = [one.name for one in facts]
    return names if None not in names and len(set(names)) == len(names) else [one.number for one in facts]


def _check(given: Any) -> None:
    """Raise ArgumentError unless the value is an instance, a factory, or a sequence or mapping of them."""
    parts: Iterable[Any] = (given,)
    if isinstance(given, Mapping):
        parts = given.values()
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        parts = given
    for part in parts:
        if part is not None and not callable(part):
            advice = "pass an instance of your class, a class, a function, or a list or dict of them"
            raise wrong_object(part, "module", "an nn.Module", advice)
