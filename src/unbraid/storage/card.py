"""The model card of a saved folder: a README.md for people and for model hubs.

Labels, titles and other text of users are escaped, so that Markdown and YAML in them are shown as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.errors import DataError, quoted
from unbraid.limits import current
from unbraid.modules.about import About
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.domain.words import LEAST
from unbraid.modules.module import ConcernModule
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.spec import EncoderDecoderSpec, needs_module
from unbraid.networks.titles import layers_text
from unbraid.storage.layout import CARD as CARD
from unbraid.storage.layout import RECIPE as RECIPE
from unbraid.storage.layout import REFEREE
from unbraid.storage.manifest import Manifest
from unbraid.storage.own_modules import ParentFacts, needed_argument

LARGEST = 2**64  # limit of integers that JSON readers accept
LIBRARY = "unbraid"  # name of the library on model hubs
LONGEST = 200  # largest number of characters of a label
FEW = 20  # longer lists are folded
MANY = 2_000  # largest number of labels that a list shows
CITATION = """\
The decomposition of recurrent networks into modules is the method of

> S. M. Imtiaz, F. Batole, A. Singh, R. Pan, B. Dantas Cruz, H. Rajan: *Decomposing a Recurrent Neural Network into
> Modules for Enabling Reusability and Replacement*. ICSE 2023. arXiv:2212.05970

```bibtex
@inproceedings{imtiaz2023decomposing,
  title     = {Decomposing a Recurrent Neural Network into Modules for Enabling Reusability and Replacement},
  author    = {Imtiaz, Sayem Mohammad and Batole, Fraol and Singh, Astha and Pan, Rangeet and Dantas Cruz, Breno
               and Rajan, Hridesh},
  booktitle = {45th IEEE/ACM International Conference on Software Engineering (ICSE)},
  year      = {2023}
}
```
"""


def card(
    manifest: Manifest, modules: Sequence[ConcernModule], about: About, domains: Mapping[int, Domain] | None = None
) -> str:
    """Return the text of ``README.md``.

    Args:
        manifest: the content of ``unbraid.json``.
        modules: the modules, in the order of the manifest.
        about: title, description and license. The scores are those of the manifest.
        domains: number of a parent -> the evidence that the folder stores for it. None by default.
    """
    parts = [
        _front_matter(about),
        f"# {escape(about.title or _title(manifest))}",
        *(escape(part) for part in re.split(r"\n\s*\n", about.description or "") if part.strip()),
        _summary(manifest, modules),
        f"## {_what(manifest)[1]}",
        _classes(manifest, modules),
        "## Networks they come from",
        _parents(manifest, modules),
        *_stored_evidence(manifest, domains or {}),
        "## Use",
        _use(manifest),
        *(["## Scores", _scores(manifest.scores)] if manifest.scores else []),
        "## Settings",
        _settings(manifest),
        "## Source",
        CITATION,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def is_card(text: str) -> bool:
    """Return whether a ``README.md`` is a model card of :func:`card`, possibly an edited one."""
    start, _, rest = text.replace("\r\n", "\n").partition("\n")
    front, end, _ = rest.partition("\n---")
    return start == "---" and bool(end) and f"library_name: {LIBRARY}" in front.split("\n")


def escape(value: object) -> str:
    """Escape text for one line of Markdown, which then shows it unchanged."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).strip()
    text = re.sub(r"([\\`*_{}\[\]<>()#+!|~$&:@.^])", r"\\\1", text)
    return re.sub(r"^([-=])", r"\\\1", text)


def plain_scores(value: Any, where: str = "scores") -> Any:
    """Convert scores to JSON: NumPy values to Python values, keys to text, NaN and infinity to None.

    Raises:
        DataError: a value is not a number, text, boolean, None, or a list or mapping of these. Also deep nesting, text
            that is not Unicode, and integers of more than 64 bits.
    """
    return _plain(value, where, current().json_depth)


def _plain(value: Any, where: str, levels: int) -> Any:
    if levels == 0:
        raise DataError(f"{quoted(where)}: is nested more than {current().json_depth} levels deep.")
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        if abs(value) >= LARGEST:
            raise DataError(f"{quoted(where)}: a number of {value.bit_length()} bits, expected at most 64.")
        return value
    if value is None:
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, Mapping):
        return {_text(str(key), where): _plain(part, f"{where}.{key}", levels - 1) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [_plain(part, f"{where}.{number}", levels - 1) for number, part in enumerate(value)]
    raise DataError(
        f"{quoted(where)}: found {type(value).__name__}, expected numbers, text, lists and mappings of them."
    )


def _text(value: str, where: str) -> str:
    """Return the text; raise DataError if it cannot be written as UTF-8."""
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise DataError(f"{quoted(where)}: found half of a surrogate pair, expected whole characters.")
    return value


def _name(label: object) -> str:
    shown = str(label)
    return escape(shown if len(shown) <= LONGEST else shown[:LONGEST] + "…")


def _front_matter(about: About) -> str:
    data: dict[str, Any] = {"library_name": LIBRARY, "tags": [LIBRARY]}
    if about.license:
        data = {"license": about.license, **data}
    return f"---\n{_yaml(data, allow_unicode=True, width=10**6)}---"


def _title(manifest: Manifest) -> str:
    if manifest.kind == "module":
        return f"A module for {manifest.modules[0].label}"
    if manifest.kind == "translator":
        return "A translator made of modules"
    if manifest.kind == "heads":
        return "A network of several outputs made of modules"
    made = "regression" if _numbers(manifest) else "classifier"
    return f"A {made} made of modules" if manifest.kind == "composition" else "The modules of a recurrent network"


def _numbers(manifest: Manifest) -> bool:
    """Return whether the modules predict numbers."""
    return any(OUTPUTS[parent.spec.output].numbers for parent in manifest.parents)


def _what(manifest: Manifest) -> tuple[str, str]:
    """Return what a module decides on, and the title of the table of modules."""
    if manifest.kind == "heads":
        return "output", "Outputs"
    return ("output", "Predicted numbers") if _numbers(manifest) else ("class", "Classes")


def _summary(manifest: Manifest, modules: Sequence[ConcernModule]) -> str:
    ios = ", ".join(dict.fromkeys(str(module.io) for module in modules))
    one = len(modules) == 1
    numbers = _numbers(manifest)
    voting = f" The modules vote by {manifest.vote}." if manifest.kind == "composition" and not numbers else ""
    if REFEREE in manifest.files:
        voting = (
            "A referee decides: a linear layer over the margins, features and inputs, fitted on labelled examples. "
            f"Without it the modules vote by {manifest.vote}."
        )
    part = "output" if manifest.kind == "heads" else "predicted number" if numbers else "class"
    return (
        f"{len(modules)} module{'' if one else 's'}, {'for one' if one else 'one per'} {part}, taken out of "
        f"{_count(len({p.sha256 for p in manifest.parents}), 'trained recurrent network')} with Unbraid "
        f"{manifest.unbraid}, with no retraining. Inputs and outputs over time: {ios}.{voting}"
    )


def _classes(manifest: Manifest, modules: Sequence[ConcernModule]) -> str:
    what = _what(manifest)[0]
    head = [what, "network", f"its {what} there", "mode", "nodes", "recurrent weights", "weights", "bytes", "FLOPs"]
    calibrated = any((e.temperature, e.offset) != (1, 0) for e in manifest.modules)
    rows = []
    for entry, module in zip(manifest.modules, modules, strict=True):
        kept = module.retention()
        shares = (kept.nodes, kept.recurrent_weights, kept.weights, kept.bytes, kept.flops)
        there = manifest.parents[entry.parent].labels[entry.index]
        row = [_name(entry.name), _number(manifest, entry.parent), _name(there), str(entry.mode)]
        row += [f"{share:.1%}" for share in shares]
        rows.append(row + ([f"{entry.temperature:.4g}", f"{entry.offset:.4g}"] if calibrated else []))
    if calibrated:
        head += ["temperature", "offset"]
    note = "Nodes, weights, bytes and FLOPs: what a module keeps of its network."
    if calibrated:
        note += " A margin counts as margin / temperature + offset."
    table = _table(head, rows)
    return f"{table if len(rows) <= FEW else _folded(f'{len(rows)} classes', table)}\n\n{note}"


def _parents(manifest: Manifest, modules: Sequence[ConcernModule]) -> str:
    rows, lists = [], []
    for number, parent in enumerate(manifest.parents):
        if _number(manifest, number) != str(number + 1):
            continue
        ios = [str(m.io) for m, e in zip(modules, manifest.modules, strict=True) if e.parent == number]
        if not ios:  # only originals of fused modules belong to this network
            continue
        classes = _names(parent.labels)
        if len(parent.labels) > FEW:
            title = f"{len(parent.labels)} classes"
            lists.append(_folded(f"The {title} of network {number + 1}", classes))
            classes = f"{title}, see below"
        rows.append([str(number + 1), ios[0], escape(layers_text(parent.spec)), classes, f"`{parent.sha256}`"])
    outputs = "outputs" if _numbers(manifest) else "classes"
    table = _table(["network", "input/output", "layers", outputs, "sha256 of its weights"], rows)
    return "\n\n".join([table, *lists])


def _stored_evidence(manifest: Manifest, domains: Mapping[int, Domain]) -> list[str]:
    """State what the folder stores about the examples that the modules were made with."""
    several = len({parent.sha256 for parent in manifest.parents}) > 1
    if not domains:
        note = "The folder stores nothing about the inputs of the networks: they vote by their margins alone."
        return [note] if several and manifest.kind == "composition" and not _numbers(manifest) else []
    counts = [(number, domain.words) for number, domain in domains.items() if domain.words is not None]
    lines = [
        f"- network {_number(manifest, number)}: the counts of {len(words.counts):,} words"
        f"{', also for each class' if words.by_class else ''}"
        for number, words in counts
    ]
    lines += [
        f"- network {_number(manifest, number)}: mean and covariance of its inputs"
        for number, domain in domains.items()
        if domain.inputs is not None
    ]
    use = "" if manifest.domain else " This composition does not use it to vote."
    note = (
        "The folder stores what inputs of the networks look like, to vote between networks and to reject unknown "
        f"inputs.{use} It was gathered from the examples of the decomposition, without labels. Words with fewer than "
        f"{LEAST} occurrences are not stored. `decompose(..., domain=False)` stores nothing."
    )
    return ["## What is stored about the examples", note, *(["\n".join(lines)] if lines else [])]


def _names(labels: Sequence[object]) -> str:
    more = f" and {len(labels) - MANY} more" if len(labels) > MANY else ""
    return ", ".join(_name(label) for label in labels[:MANY]) + more


def _folded(title: str, text: str) -> str:
    """Markdown that is hidden until the reader opens it. The blank lines keep it Markdown inside of HTML."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _number(manifest: Manifest, parent: int) -> str:
    """Return the number of a network in the card, from 1. All slices of one network have the same number."""
    return str(next(n for n, p in enumerate(manifest.parents) if p.sha256 == manifest.parents[parent].sha256) + 1)


def _use(manifest: Manifest) -> str:
    parents = [(n, p) for n, p in enumerate(manifest.parents) if needs_module(p.spec)]
    own = [ParentFacts.of(n, p) for n, p in parents]
    argument, note = "", ""
    if own:
        argument = f", module={needed_argument(own, blank='')}"
        names = ", ".join(escape(name) for name in dict.fromkeys(one.class_name for one in own))
        stored = all(one.init is not None for one in own)
        arguments = "The arguments of its constructor are stored." if stored else "Pass the arguments it was made with."
        lines = [f"- {escape(one)}" for one in own]
        note = "\n".join([f"\n\nNo code is stored: import the class of each network, {names}. {arguments}\n", *lines])
    label = repr(manifest.modules[0].label)
    name, after = {
        "decomposition": ("parts", f"parts[{label}].predict_proba(x)  # P({label}) of every example"),
        "module": ("module", f"module.predict_proba(x)  # P({label}) of every example"),
        "composition": ("composition", "composition.predict(x)  # labels"),
        "translator": ("translator", f'translator.translate(["..."], to={label})'),
        "heads": ("heads", "heads.predict(x)  # a dict: output layer -> labels or numbers"),
    }[manifest.kind]
    if _numbers(manifest) and manifest.kind != "heads":
        member = f"parts[{label}]" if manifest.kind == "decomposition" else name
        after = f"{member}.predict(x)  # numbers"
    if any(isinstance(p.spec, EncoderDecoderSpec) for p in manifest.parents) and manifest.kind != "translator":
        after = f"unbraid.Translator([{name if manifest.kind == 'module' else f'*{name}.values()'}])"
    call = f'{name} = unbraid.load_{manifest.kind}("path/to/this/folder"{argument})'
    return f"```python\nimport unbraid\n\n{call}\n{after}\n```{note}"


def _scores(scores: Mapping[str, Any]) -> str:
    flat = dict(_flat(scores))
    shown = [[escape(name.replace("_", " ")), _figure(value)] for name, value in flat.items() if value is not None]
    more = "\n\nAll of them are in `unbraid.json`." if any(isinstance(v, Mapping | list) for v in flat.values()) else ""
    return _table(["score", ""], [row for row in shown if row[1]]) + more


def _flat(scores: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield scores by name; names of nested scores are ``outer inner``."""
    for name, value in scores.items():
        if isinstance(value, Mapping) and not any(isinstance(v, Mapping | list) for v in value.values()):
            yield from ((f"{name} {inner}", figure) for inner, figure in value.items())
        else:
            yield name, value


def _figure(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(value)


def settings_groups(configs: Iterable[tuple[Label, DecompositionConfig]]) -> dict[str, list[Label]]:
    """Group labels by the settings of their modules: YAML text of the settings -> labels."""
    groups: dict[str, list[Label]] = {}
    shown: dict[str, str] = {}  # YAML is slow, and most modules have the same settings
    for label, config in configs:
        plain = config.model_dump_json()
        if plain not in shown:
            shown[plain] = _yaml(config.model_dump(mode="json"))
        groups.setdefault(shown[plain], []).append(label)
    return groups


def _settings(manifest: Manifest) -> str:
    """List each different configuration, with the labels of its modules."""
    groups = settings_groups((entry.name if entry.head else entry.label, entry.config) for entry in manifest.modules)
    if len(groups) == 1:
        return f"```yaml\n{next(iter(groups))}```"
    parts = []
    for dumped, labels in groups.items():
        few = len(labels) <= FEW
        named = f"Of {_names(labels)}:" if few else _folded(f"Of these {len(labels)} classes:", _names(labels))
        parts.append(f"{named}\n\n```yaml\n{dumped}```")
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _yaml(data: Mapping[str, Any], **settings: Any) -> str:
    import yaml  # here, as `import unbraid` need not wait for it

    return str(yaml.safe_dump(data, sort_keys=False, **settings))
