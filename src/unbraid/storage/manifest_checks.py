"""Read ``unbraid.json``, and check every field and every reference of one field to another."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import ValidationError

from unbraid.config import DecompositionConfig, GateView, Mode, UnknownStrategyConfig
from unbraid.errors import ConfigError, FormatError, quoted
from unbraid.limits import check_size, parse_json
from unbraid.networks.spec import EncoderDecoderSpec, label_count
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.layout import MODULES, PARENTS, RECIPE, REFEREE, vocabulary_file
from unbraid.storage.manifest import (
    CHECKSUM,
    FORMAT,
    UNSEALED,
    Kind,
    Manifest,
    ModuleEntry,
    ParentEntry,
    checksum,
    first_problem,
)

FIELDS = 64  # largest number of fields of the manifest itself


def parse_manifest(content: bytes, where: str, kind: Kind | None = None) -> Manifest:
    """Read ``unbraid.json``.

    Args:
        content: content of the file.
        where: path of the file, for messages.
        kind: the expected kind; None for any.

    Returns:
        the manifest. All references to parents, modules and files are valid.

    Raises:
        FormatError: not JSON, a newer format, a wrong checksum, a missing or wrong field, or another kind.
    """
    value = parse_json(content, where, strict=True)
    if not isinstance(value, dict):
        raise FormatError(f"{where}: found {type(value).__name__}, expected a JSON object.")
    _check_seal(value, where)
    _check_counts(value, where)
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise FormatError(f"{where}: {first_problem(error)}.") from None
    if kind is not None and manifest.kind != kind:
        raise FormatError(
            f"{where}: field kind: found {manifest.kind!r}, expected {kind!r}: use load_{manifest.kind}()."
        )
    try:
        _check_references(manifest)
    except FormatError as error:
        raise FormatError(f"{where}: field {error}") from None
    return manifest


def _check_seal(value: dict[str, Any], where: str) -> None:
    """Check the format and the checksum."""
    number = value.get("format")
    if type(number) is not int:
        return  # refused later because of its type
    if not 1 <= number <= FORMAT:
        raise FormatError(
            f"{where}: field format: found {quoted(hex(number) if number > 2**63 else number, 40)}, this version reads "
            f"up to {FORMAT}: upgrade unbraid."
        )
    try:
        expected = checksum(value)
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON ({quoted(error)}).") from None
    if number == UNSEALED and CHECKSUM in value:
        raise FormatError(f"{where}: field checksum: found one, format {UNSEALED} has none: the file is damaged.")
    if number != UNSEALED and value.get(CHECKSUM) != expected:
        raise FormatError(
            f"{where}: field checksum: it does not match the other fields: the file is damaged or was edited. Save the "
            "modules again."
        )


def _check_counts(value: dict[str, Any], where: str) -> None:
    """Check the numbers of entries before pydantic makes an object or an error for each of them."""
    if len(value) > FIELDS:
        raise FormatError(f"{where}: found {len(value)} fields, expected at most {FIELDS}.")
    for name in ("parents", "modules", "originals"):
        entries = value.get(name)
        if isinstance(entries, list):
            check_size(len(entries), "modules", where, f"number of {name}")
            _check_width(entries, where)
    parents = value.get("parents")
    for parent in parents if isinstance(parents, list) else []:
        spec = parent.get("spec") if isinstance(parent, dict) else None
        for layers in (spec.get("stages"), spec.get("layers")) if isinstance(spec, dict) else ():
            if isinstance(layers, list):
                check_size(len(layers), "layers", where, "number of layers")
    if isinstance(value.get("files"), dict):
        check_size(len(value["files"]), "modules", where, "number of files")


def _check_width(value: Any, where: str) -> None:
    """Check the number of fields of each object: at most two for each layer of a network."""
    if isinstance(value, dict):
        check_size(len(value) // 2, "layers", where, "half the number of fields of an object")
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict | list):
            _check_width(part, where)


def _check_references(manifest: Manifest) -> None:
    """Check references between fields; raise FormatError that begins with the name of the field."""
    if not manifest.modules:
        raise FormatError("modules: found none, expected at least one.")
    names = Counter((m.head, m.label) for m in manifest.modules)
    repeated = [label for (_, label), times in names.items() if times > 1]
    if repeated:
        raise FormatError(f"modules: labels repeat: {quoted(repeated[0])!r} occurs twice.")
    entries = manifest.entries
    check_size(len(entries), "modules", "modules", "number of modules and originals")
    users: list[list[int]] = [[] for _ in manifest.parents]
    for number, entry in enumerate(entries):
        own = number < len(manifest.modules)
        field = f"modules.{number}" if own else f"originals.{number - len(manifest.modules)}"
        if entry.parent >= len(users):
            raise FormatError(f"{field}.parent: found {entry.parent}, expected the number of a parent.")
        users[entry.parent].append(number)
        _check_entry(entry, manifest.parents[entry.parent], field)
        _check_others(entry, number, entries, len(manifest.modules), field)
    for number, parent in enumerate(manifest.parents):
        _check_parent(parent, f"parents.{number}", users[number], entries)
    unused = set(range(len(manifest.modules), len(entries))) - {entry.original for entry in manifest.modules}
    if unused:
        raise FormatError(f"originals: entry {min(unused)} is not the original of a module.")
    _check_kind(manifest)
    _check_files(manifest)


def _check_entry(entry: ModuleEntry, parent: ParentEntry, field: str) -> None:
    """Check a module against its parent."""
    if entry.index >= len(parent.labels):
        raise FormatError(f"{field}.index: found {entry.index}, the parent has no such class.")
    if entry.idle > len(parent.labels):
        raise FormatError(f"{field}.idle: found {entry.idle}, the parent has fewer classes.")
    if entry.compact and entry.mode is not Mode.ROLLED:
        raise FormatError(f"{field}.compact: found true, expected a rolled module.")
    translates, rolled = isinstance(parent.spec, EncoderDecoderSpec), entry.mode is Mode.ROLLED
    if (entry.words is not None) != translates or (entry.words or 0) > parent.spec.classes:
        raise FormatError(f"{field}.words: found {entry.words} for a network of {parent.spec.classes} output columns.")
    if entry.shares_head and (not translates or parent.sliced_by is not None):
        raise FormatError(f"{field}.shares_head: found true, expected a module of a language with its whole parent.")
    if entry.bridged and not (translates and rolled):
        raise FormatError(f"{field}.bridged: found true, expected a rolled module of a translator.")
    settings = entry.config.model_dump()
    try:
        if not isinstance(entry.config, UnknownStrategyConfig):
            DecompositionConfig.of(**settings)
    except ConfigError as error:
        raise FormatError(f"{field}.config: {error}") from None
    by_gates = settings.get("gates", GateView.EACH if entry.by_gates else GateView.HIDDEN) == GateView.EACH
    if settings.get("mode", entry.mode) != entry.mode or by_gates is not entry.by_gates:
        raise FormatError(f"{field}.config: its mode or gates are not those of the module.")


def _check_others(entry: ModuleEntry, number: int, entries: list[ModuleEntry], modules: int, field: str) -> None:
    """Check a module against the entries that it refers to."""
    if entry.shares is not None:
        lent = entries[entry.shares] if entry.shares < number else None
        if lent is None or not (lent.compact and entry.compact) or lent.parent != entry.parent:
            raise FormatError(
                f"{field}.shares: found {entry.shares}, expected the number of an earlier compact module."
            )
    if entry.original is not None:
        origin = entries[entry.original] if modules <= entry.original < len(entries) and number < modules else None
        if origin is None or origin.index != entry.index:  # a trained module may have another parent
            raise FormatError(f"{field}.original: found {entry.original}, expected an original of the same class.")


def _check_parent(parent: ParentEntry, field: str, users: list[int], entries: list[ModuleEntry]) -> None:
    """Check a parent and its modules."""
    if len(parent.labels) != label_count(parent.spec):  # before objects of that size are made
        raise FormatError(f"{field}.labels: found {len(parent.labels)} for {parent.spec.classes} classes.")
    if not users:
        raise FormatError(f"{field}: this network has no module.")
    sliced = parent.sliced_by
    if sliced is not None:
        fits = all(entries[user].mode is Mode.ROLLED and entries[user].shares is None for user in users)
        if users[0] != sliced or not fits or isinstance(parent.spec, TorchSpec):
            raise FormatError(f"{field}.sliced_by: found {sliced}, expected the first of its modules, all rolled.")
    if parent.facts is not None and not isinstance(parent.spec, TorchSpec):
        raise FormatError(f"{field}.facts: found facts for a network that is not a PyTorch module.")
    if parent.target_vocabulary is not None and not isinstance(parent.spec, EncoderDecoderSpec):
        raise FormatError(f"{field}.target_vocabulary: found one for a network that does not translate.")


def _check_kind(manifest: Manifest) -> None:
    """Check the content against the kind of the folder."""
    kind, count = manifest.kind, len(manifest.entries)
    if kind == "module" and count != 1:
        raise FormatError(f"modules: found {count}, expected one in a folder of kind 'module'.")
    if kind == "decomposition":
        first = manifest.parents[0]  # trained modules may have parents of other weights
        if any(p.sliced_by is not None or (p.spec, p.labels) != (first.spec, first.labels) for p in manifest.parents):
            raise FormatError("parents: expected whole networks of one structure in a folder of kind 'decomposition'.")
    if any((entry.head is not None) is not (kind == "heads") for entry in manifest.modules):
        raise FormatError("modules: expected field head in each module of a folder of kind 'heads', and in no other.")
    if any(entry.head is not None for entry in manifest.originals):
        raise FormatError("originals: found field head, expected it in modules only.")
    translates = [isinstance(parent.spec, EncoderDecoderSpec) for parent in manifest.parents]
    if kind in ("composition", "heads") and any(translates):
        raise FormatError(f"kind: found {kind!r} for a network that translates, expected 'translator'.")
    if kind == "translator":
        read = all(p.vocabulary is not None and p.target_vocabulary is not None for p in manifest.parents)
        if not all(translates) or not read or not all(isinstance(m.label, str) for m in manifest.modules):
            raise FormatError(
                "kind: found 'translator', expected encoder-decoders with vocabularies and named languages."
            )


def _check_files(manifest: Manifest) -> None:
    """Check that the files are exactly those that the other fields need."""
    expected = {PARENTS, MODULES}
    for number, parent in enumerate(manifest.parents):
        expected |= {vocabulary_file(number)} if parent.vocabulary is not None else set()
        expected |= {vocabulary_file(number, target=True)} if parent.target_vocabulary is not None else set()
    optional = {RECIPE, REFEREE} if manifest.kind == "composition" else {RECIPE}
    strange = sorted(set(manifest.files) - expected - optional)
    missing = sorted(expected - set(manifest.files))
    if strange:
        raise FormatError(f"files: found {quoted(strange[0], 60)!r}, which does not belong to these fields.")
    if missing:
        raise FormatError(f"files: {missing[0]!r} is missing; found {quoted(sorted(manifest.files))}.")
