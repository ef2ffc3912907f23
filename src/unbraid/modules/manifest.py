"""The JSON of a saved folder: what it says, and that it is what it should be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unbraid.config import DecompositionConfig, Edges, Mode
from unbraid.errors import FormatError
from unbraid.modules.calibration import LARGEST
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, TorchSpec, label_count
from unbraid.vocabulary import Padding

FORMAT = 1
Kind = Literal["decomposition", "module", "composition", "translator"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Label = str | int


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParentEntry(_Entry):
    """A monolithic model, or what one rolled module needs of it.

    Attributes:
        sha256: digest of the whole model.
        labels: names of its classes.
        spec: its layers, with their sizes.
        sliced_by: the module whose slices alone are stored; None: the whole model is.
        vocabulary: how its texts are padded, where it has a vocabulary (the words lie in ``vocabulary-P.json``).
        target_vocabulary: likewise, of what an encoder-decoder says (``vocabulary-P-target.json``).
    """

    sha256: Digest
    labels: list[Label]
    spec: Annotated[NetworkSpec | EncoderDecoderSpec | TorchSpec, Field(discriminator="type")]
    sliced_by: int | None = None
    vocabulary: Padding | None = None
    target_vocabulary: Padding | None = None


class ModuleEntry(_Entry):
    """One module: whose part it is, what it keeps (shapes; the bits lie in modules.safetensors), how it was made.

    ``compact``: its layers have weights of their own, or with ``shares`` those of an earlier module. ``original``: of a
    fused module the one that it was made from. Both are numbers in :attr:`Manifest.entries`. ``temperature`` and
    ``offset`` calibrate it in a composition.
    ``words``: of a language's module, how many of the output columns it keeps (the bits lie in modules.safetensors);
    ``shares_head``: these are the parent's own, and not stored again. ``bridged``: weights of its own lead from the
    encoder's last states to the decoder's first.
    """

    label: Label
    index: Annotated[int, Field(ge=0)]
    parent: Annotated[int, Field(ge=0)]
    steps: dict[str, Annotated[int, Field(ge=1, le=2**20)]]
    mode: Mode
    by_gates: bool
    edges: Edges
    idle: Annotated[int, Field(ge=0, le=2**24)]
    config: DecompositionConfig
    compact: bool = False
    shares: Annotated[int, Field(ge=0)] | None = None
    original: Annotated[int, Field(ge=0)] | None = None
    words: Annotated[int, Field(ge=1)] | None = None
    shares_head: bool = False
    bridged: bool = False
    temperature: Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)] = 0.0


class Manifest(_Entry):
    """The whole of ``unbraid.json``.

    Attributes:
        format: number of the folder format.
        unbraid: version of the library that wrote it.
        kind: what the folder holds.
        files: file name -> sha256 of its bytes.
        originals: what fused modules were made from, so that they can be taken apart again.
        vote: of a composition.
        scores: figures that whoever saved it wanted kept.
    """

    format: int
    unbraid: str
    kind: Kind
    files: dict[str, Digest]
    parents: list[ParentEntry]
    modules: list[ModuleEntry]
    originals: list[ModuleEntry] = []
    vote: Literal["margin", "probability"] = "margin"
    scores: dict[str, Any] = {}

    @property
    def entries(self) -> list[ModuleEntry]:
        """Modules and originals, as the tensors of modules.safetensors number them."""
        return [*self.modules, *self.originals]


def parse_manifest(text: str, where: str, kind: Kind | None = None) -> Manifest:
    """Read ``unbraid.json``.

    Args:
        text: its content.
        where: its path, for messages.
        kind: what the caller expects; None: anything.

    Raises:
        FormatError: not JSON, a newer format, a field that is missing or wrong, or another kind.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        _refuse_newer(text, where)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise FormatError(f"{where}: field {field}: {first['msg']} (found {str(first['input'])[:60]!r}).") from None
    _refuse_newer(text, where)
    if kind is not None and manifest.kind != kind:
        raise FormatError(
            f"{where}: field kind: found {manifest.kind!r}, expected {kind!r}: use load_{manifest.kind}()."
        )
    if not manifest.modules:
        raise FormatError(f"{where}: field modules: found none, expected at least one.")
    names = [module.label for module in manifest.modules]
    if len(set(names)) != len(names):
        raise FormatError(f"{where}: field modules: labels repeat: {names[:12]}.")
    for number, entry in enumerate(manifest.entries):
        _check_entry(entry, number, manifest, where)
    for number, parent in enumerate(manifest.parents):
        if len(parent.labels) != label_count(parent.spec):  # before anything of that size is made
            raise FormatError(
                f"{where}: field parents.{number}.labels: found {len(parent.labels)} for {parent.spec.classes} classes."
            )
        if parent.sliced_by is not None and not 0 <= parent.sliced_by < len(manifest.modules):
            raise FormatError(f"{where}: field parents.{number}.sliced_by: found {parent.sliced_by}, no such module.")
    return manifest


def _check_entry(entry: ModuleEntry, number: int, manifest: Manifest, where: str) -> None:
    """What an entry says of others; raises FormatError."""
    own = number < len(manifest.modules)
    field = f"modules.{number}" if own else f"originals.{number - len(manifest.modules)}"
    if entry.parent >= len(manifest.parents):
        raise FormatError(f"{where}: field {field}.parent: found {entry.parent}, expected a parent's number.")
    labels = manifest.parents[entry.parent].labels
    if entry.index >= len(labels):
        raise FormatError(f"{where}: field {field}.index: found {entry.index}, the parent has no such class.")
    if entry.idle > len(labels):
        raise FormatError(f"{where}: field {field}.idle: found {entry.idle}, the parent has fewer classes.")
    if entry.shares is not None:
        lent = manifest.entries[entry.shares] if entry.shares < number else None
        if lent is None or not (lent.compact and entry.compact) or lent.parent != entry.parent:
            raise FormatError(
                f"{where}: field {field}.shares: found {entry.shares}, expected an earlier compact module's number."
            )
    if entry.original is not None and not (own and len(manifest.modules) <= entry.original < len(manifest.entries)):
        raise FormatError(f"{where}: field {field}.original: found {entry.original}, expected an original's number.")


def _refuse_newer(text: str, where: str) -> None:
    class _Number(BaseModel):
        format: int

    try:
        number = _Number.model_validate_json(text).format
    except ValidationError:
        return
    if not 1 <= number <= FORMAT:
        raise FormatError(f"{where}: field format: found {number}, this version reads up to {FORMAT}: upgrade unbraid.")
