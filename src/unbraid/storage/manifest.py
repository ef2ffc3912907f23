"""The content of ``unbraid.json``, and the checksum over it. See ``docs/format.md``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticSerializationError

from unbraid.config import DecompositionConfig, Edges, Mode
from unbraid.data.padding import Padding
from unbraid.errors import DataError, FormatError, quoted
from unbraid.modules.voting.calibration import LARGEST
from unbraid.networks.checking import check_label
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.pytorch.facts import TorchFacts
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec
from unbraid.networks.torch_spec import TorchSpec

FORMAT = 2
UNSEALED = 1  # the format without a checksum
CHECKSUM = "checksum"
Kind = Literal["decomposition", "module", "composition", "translator", "heads"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _label(label: str | int) -> str | int:
    try:
        return check_label(label)
    except DataError as error:
        raise ValueError(str(error)) from None


Label = Annotated[str | int, AfterValidator(_label)]
HeadName = Annotated[str, Field(min_length=1, pattern="^[^/]*$"), AfterValidator(_label)]
Count = Annotated[int, Field(ge=0, le=2**31)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParentEntry(_Entry):
    """A parent network, or the slices of it that rolled modules of one body need.

    Attributes:
        sha256: digest of the whole network.
        labels: names of its classes.
        spec: its layers and their sizes.
        sliced_by: number of its first module if only slices are stored; None if the whole network is stored.
        vocabulary: padding of its texts, if it has a vocabulary. The words are in ``vocabulary-P.json``.
        target_vocabulary: padding of target texts of an encoder-decoder (words in ``vocabulary-P-target.json``).
        facts: facts about a user's PyTorch module that help to construct it again. The field is omitted if it is None,
            so that older readers can still read the folder.
    """

    sha256: Digest
    labels: Annotated[list[Label], Field(fail_fast=True)]
    spec: Annotated[NetworkSpec | EncoderDecoderSpec | TorchSpec | KerasSpec, Field(discriminator="type")]
    sliced_by: Count | None = None
    vocabulary: Padding | None = None
    target_vocabulary: Padding | None = None
    facts: TorchFacts | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.facts is None:
            del found["facts"]
        return found


class ModuleEntry(_Entry):
    """One module. The bits of its masks are in ``modules.safetensors``.

    Attributes:
        label: label of the module.
        index: index of its class in the labels of its parent.
        parent: number of its parent.
        steps: layer name -> number of timesteps of the layer when it was observed.
        mode: rolled or unrolled.
        by_gates: whether masks of gated layers have a gate axis.
        edges: the edges of an unrolled node that were removed.
        idle: number of output columns that are always zero and take part in the softmax.
        config: settings of the module.
        compact: whether its layers have their own weights, or with ``shares`` those of an earlier module.
        shares: number of the entry in :attr:`Manifest.entries` whose weights it shares.
        original: for a fused module, number of the entry that it was made from.
        words: for a module of a language, number of output columns that it keeps.
        shares_head: whether the output columns are those of the parent and are not stored again.
        bridged: whether weights map the last states of the encoder to the first states of the decoder.
        temperature: divisor of the margin in a calibrated composition.
        offset: value added to the margin in a calibrated composition.
        head: name of its output layer in a folder of several; the field is omitted if it is None.
    """

    label: Label
    index: Count
    parent: Count
    steps: dict[str, Annotated[int, Field(ge=1, le=2**20)]]
    mode: Mode
    by_gates: bool
    edges: Edges
    idle: Annotated[int, Field(ge=0, le=2**24)]
    config: SerializeAsAny[DecompositionConfig]
    compact: bool = False
    shares: Count | None = None
    original: Count | None = None
    words: Annotated[int, Field(ge=1)] | None = None
    shares_head: bool = False
    bridged: bool = False
    temperature: Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)] = 0.0
    head: HeadName | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.head is None:
            del found["head"]
        return found

    @property
    def name(self) -> str:
        """The label, behind the name of the output layer if there are several."""
        return str(self.label) if self.head is None else f"{self.head}/{self.label}"


class Manifest(_Entry):
    """The content of ``unbraid.json``.

    Attributes:
        format: number of the folder format.
        checksum: sha256 of the canonical JSON of all other fields; None in format 1.
        unbraid: version of the library that wrote the folder.
        kind: kind of the content of the folder.
        files: file name -> sha256 of its bytes.
        parents: the parent networks.
        modules: the modules.
        originals: the originals of fused modules, which ``unfuse`` returns.
        vote: kind of vote of a composition.
        scores: scores that were passed to ``save``.
        skipped: for a decomposition, labels of the classes without a module because they had too few examples.
        stored_as: ``float16`` if float32 weights are stored in half precision. The field is omitted if it is None, so
            that older readers can still read the folder.
    """

    format: int
    checksum: Digest | None = None
    unbraid: str
    kind: Kind
    files: dict[str, Digest]
    parents: Annotated[list[ParentEntry], Field(fail_fast=True)]
    modules: Annotated[list[ModuleEntry], Field(fail_fast=True)]
    originals: Annotated[list[ModuleEntry], Field(fail_fast=True)] = []
    vote: Literal["margin", "probability"] = "margin"
    scores: dict[str, Any] = {}
    skipped: Annotated[list[Label], Field(fail_fast=True)] = []
    stored_as: Literal["float16"] | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.stored_as is None:
            del found["stored_as"]
        return found

    @property
    def entries(self) -> list[ModuleEntry]:
        """Modules and originals, in the order of their numbers in modules.safetensors."""
        return [*self.modules, *self.originals]

    def to_json(self) -> bytes:
        """Return the content of ``unbraid.json`` with the checksum; raise FormatError for invalid Unicode."""
        with named_errors():
            sealed = self.model_copy(update={CHECKSUM: checksum(json.loads(self.model_dump_json()))})
            return sealed.model_dump_json(indent=1).encode()


def checksum(content: Mapping[str, Any]) -> str:
    """Compute the checksum of a manifest: sha256 of its canonical JSON.

    Canonical JSON has no ``checksum`` field, sorted keys, no spaces and only the necessary escapes. It is UTF-8.

    Args:
        content: the manifest as parsed JSON.

    Raises:
        ValueError: text that is not valid Unicode, or a number that JSON does not have.
    """
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def named_errors() -> Iterator[None]:
    """Convert errors of pydantic and Python for values that a manifest cannot hold to FormatError."""
    try:
        yield
    except ValidationError as error:
        raise FormatError(f"cannot be saved: {first_problem(error)}.") from None
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise FormatError(f"cannot be saved: a text is not valid Unicode ({quoted(error)}).") from None


def first_problem(error: ValidationError) -> str:
    """Format the first problem that pydantic found: the field, the expected and the found value."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "content"
    found = first["input"]
    shown = f"{type(found).__name__} of {len(found)}" if isinstance(found, dict | list) else repr(quoted(found, 60))
    return f"field {quoted(field)}: {quoted(first['msg'])} (found {shown})"
