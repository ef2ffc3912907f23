"""Domain evidence in a folder: ``domain-P.json`` for each parent that has it, and ``domain.safetensors`` for arrays.

Shapes: C classes, D inputs, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from unbraid.errors import FormatError
from unbraid.limits import parse_json
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.domain.gaussians import MOST as MOST_COLUMNS
from unbraid.modules.domain.gaussians import Gaussians
from unbraid.modules.domain.typicality import QUANTILES, WEIGHTS, Typicality
from unbraid.modules.domain.words import LARGEST_COUNT, MOST, MOST_OF_CLASS, MOST_OF_CLASSES, WordCounts
from unbraid.storage.layout import DOMAINS, domain_file
from unbraid.storage.manifest import Manifest, first_problem
from unbraid.storage.tensor_files import Expected, TensorFile

LARGEST = 8 * 2**20  # bytes of the JSON of one parent
FORMER = "distance"  # a score of older folders, whose typicality is left out: it was measured in another way
KINDS = ("inputs", "features")  # the Gaussians of a domain

Dispersion = Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WordsEntry(_Entry):
    """The content of a :class:`WordCounts`."""

    counts: Annotated[dict[str, Annotated[int, Field(ge=1, le=LARGEST_COUNT)]], Field(max_length=MOST)]
    total: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    dispersion: Dispersion
    by_class: Annotated[
        list[Annotated[dict[str, Annotated[int, Field(ge=1, le=LARGEST_COUNT)]], Field(max_length=MOST_OF_CLASS)]],
        Field(max_length=MOST_OF_CLASSES),
    ] = []


class TypicalityEntry(_Entry):
    """The content of a :class:`Typicality`."""

    scales: Annotated[dict[str, tuple[Number, Number]], Field(max_length=len(WEIGHTS))]
    quantiles: Annotated[list[Number], Field(min_length=QUANTILES, max_length=QUANTILES)]


class DomainEntry(_Entry):
    """The content of ``domain-P.json``: a :class:`Domain` without its arrays.

    Attributes:
        words: word counts.
        dispersion: of the numeric inputs.
        typicality: distribution of the scores of held-out inputs.
        arrays: which Gaussians ``domain.safetensors`` has for this parent.
    """

    words: WordsEntry | None
    dispersion: Dispersion
    typicality: TypicalityEntry | None
    arrays: Annotated[list[Literal["inputs", "features"]], Field(max_length=len(KINDS))]


def stored_domains(domains: Mapping[int, Domain]) -> tuple[dict[str, bytes], dict[str, Tensor]]:
    """Convert evidence to files and tensors.

    Args:
        domains: number of a parent -> its evidence.

    Returns:
        name -> content of the JSON files, and name -> tensor.
    """
    texts, tensors = {}, {}
    for number, domain in domains.items():
        words, typical = domain.words, domain.typicality
        gaussians = {kind: model for kind in KINDS if (model := getattr(domain, kind)) is not None}
        entry = DomainEntry(
            words=None
            if words is None
            else WordsEntry(
                counts=dict(words.counts),
                total=words.total,
                dispersion=words.dispersion,
                by_class=[dict(own) for own in words.by_class],
            ),
            dispersion=domain.dispersion,
            typicality=None
            if typical is None
            else TypicalityEntry(scales=dict(typical.scales), quantiles=typical.quantiles.tolist()),
            arrays=list(gaussians),
        )
        texts[domain_file(number)] = entry.model_dump_json(indent=1).encode()
        for kind, model in gaussians.items():
            tensors[f"{number}/{kind}.means"] = torch.from_numpy(model.means)
            tensors[f"{number}/{kind}.covariance"] = torch.from_numpy(model.covariance)
    return texts, tensors


def read_domains(manifest: Manifest, files: Mapping[str, bytes]) -> list[Domain | None]:
    """Read the evidence of each parent; None for a parent without it.

    Raises:
        FormatError: a field or an array is missing, unknown or out of range, or does not fit the parent.
    """
    names = [domain_file(number) for number in range(len(manifest.parents))]
    entries = [_entry(files[name], name) if name in files else None for name in names]
    has_arrays = any(entry is not None and entry.arrays for entry in entries)
    if has_arrays != (DOMAINS in files):
        raise FormatError(f"{DOMAINS}: found {'none' if has_arrays else 'one'}, which does not fit the domain files.")
    arrays: Sequence[Mapping[str, Tensor]] = [{} for _ in entries]
    if has_arrays:
        stored = TensorFile(files[DOMAINS], DOMAINS, len(entries))
        for number, (entry, parent) in enumerate(zip(entries, manifest.parents, strict=True)):
            stored.check(number, _expected(entry, len(parent.labels), parent.spec.features))
        arrays = stored.load()
    return [
        None if entry is None else _domain(entry, own, len(parent.labels), name)
        for entry, own, parent, name in zip(entries, arrays, manifest.parents, names, strict=True)
    ]


def _entry(content: bytes, name: str) -> DomainEntry:
    if len(content) > LARGEST:
        raise FormatError(f"{name}: size is {len(content)} bytes, expected at most {LARGEST}.")
    parse_json(content, name, strict=True)
    try:
        return DomainEntry.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise FormatError(f"{name}: {first_problem(error)}.") from None


def _expected(entry: DomainEntry | None, classes: int, features: int) -> dict[str, Expected]:
    found: dict[str, Expected] = {}
    for kind in entry.arrays if entry is not None else ():
        rows, columns = (1, None) if kind == "inputs" else (classes, features)
        found[f"{kind}.means"] = Expected((rows, columns))
        found[f"{kind}.covariance"] = Expected((columns, columns))
    return found


def _domain(entry: DomainEntry, arrays: Mapping[str, Tensor], classes: int, name: str) -> Domain:
    if entry.words is not None and len(entry.words.by_class) not in (0, classes):
        raise FormatError(f"{name}: by_class: found {len(entry.words.by_class)} classes, expected {classes} or none.")
    try:
        words = None if entry.words is None else WordCounts(**entry.words.model_dump())
        typical = None if entry.typicality is None or FORMER in entry.typicality.scales else entry.typicality
        typicality = None if typical is None else Typicality(typical.scales, np.asarray(typical.quantiles))
        gaussians = {kind: _gaussians(arrays, kind) for kind in entry.arrays}
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    return Domain(words, gaussians.get("inputs"), entry.dispersion, gaussians.get("features"), typicality)


def _gaussians(arrays: Mapping[str, Tensor], kind: str) -> Gaussians:
    means, covariance = arrays[f"{kind}.means"], arrays[f"{kind}.covariance"]
    if means.shape[1] > MOST_COLUMNS:
        raise FormatError(f"{kind}: found {means.shape[1]} columns, expected at most {MOST_COLUMNS}.")
    return Gaussians(means.numpy(), covariance.numpy())
