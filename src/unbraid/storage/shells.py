"""Expected names and shapes of the tensors of a folder, derived from its manifest alone.

Shapes: H units, T timesteps, G gates, F features, R head rows, V target words, P parts of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from unbraid.config import Mode
from unbraid.errors import FormatError, quoted
from unbraid.limits import check_expansion
from unbraid.modules.concern import Concern
from unbraid.networks.checking import run_flow
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.pytorch.codeless import shell_layer, shell_linear
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, weight_count
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.layout import PARENTS
from unbraid.storage.manifest import ModuleEntry, ParentEntry
from unbraid.storage.tensor_files import FLOATS, Declared, Expected


class Budget:
    """Bytes of memory that the content of a folder needs; see :func:`unbraid.limits.check_expansion`.

    Args:
        stored: number of bytes of the files with tensors.
    """

    def __init__(self, stored: int) -> None:
        self.stored, self.decoded = stored, 0

    def spend(self, size: int) -> None:
        """Add ``size`` bytes; raise FormatError if the sum is too large for the size of the files."""
        self.decoded += size
        check_expansion(self.decoded, self.stored, "the files with tensors")


@dataclass(frozen=True)
class Shell:
    """The structure of a parent network, without weights.

    Attributes:
        spec: description of the layers.
        layers: name -> layer on torch's meta device, in the order of computation.
        skeleton: the whole network on the meta device; None for a user's PyTorch module.
    """

    spec: Spec
    layers: Mapping[str, Layer]
    skeleton: Network | None

    @property
    def floats(self) -> tuple[torch.dtype, ...]:
        """Return the dtypes that weights may have."""
        return (torch.float32,) if self.skeleton is not None else FLOATS

    def weights(self) -> dict[str, Expected]:
        """Return name -> dtype and shape of every weight of the whole network."""
        assert self.skeleton is not None
        return {name: Expected(tuple(p.shape)) for name, p in self.skeleton.state_dict().items()}


def shell_of(entry: ParentEntry, number: int, stored: int, budget: Budget) -> Shell:
    """Build the structure of parent ``number``.

    Args:
        entry: entry in the manifest.
        number: number of the parent, for messages.
        stored: size of parent.safetensors in bytes.
        budget: memory budget of the folder. A sliced network is expanded to its whole size.

    Raises:
        FormatError: sizes that do not fit each other, or more weights than the file can hold.
    """
    declared, smallest = weight_count(entry.spec), 2 if isinstance(entry.spec, TorchSpec) else 4  # bytes of a weight
    if entry.sliced_by is not None:
        budget.spend(4 * declared)
    elif smallest * declared > stored:
        raise FormatError(f"parent {number}: field spec: declares {declared} weights, {PARENTS} has {stored} bytes.")
    if isinstance(entry.spec, TorchSpec):
        layers = {p.name: Layer(p.name, shell_layer(p)) for p in entry.spec.layers}
        core = not layers
        layers |= {p.name: Layer(p.name, shell_linear(p), core=core) for p in entry.spec.dense}
        if len(layers) != len(entry.spec.layers) + len(entry.spec.dense):
            raise FormatError(f"parent {number}: field spec.layers: two layers have one name.")
        return Shell(entry.spec, layers, None)
    skeleton = Network.skeleton(entry.spec)
    return Shell(entry.spec, skeleton.layers, skeleton)


def check_steps(entry: ModuleEntry, shell: Shell) -> None:
    """Raise FormatError if the timesteps of a module are not those of the layers of its parent.

    They name the layers that the module prunes: all layers, or those that ``layers="recurrent"`` includes.
    """
    core = {name for name, layer in shell.layers.items() if layer.core}
    if set(entry.steps) not in (core, set(shell.layers)):
        found, expected = quoted(sorted(entry.steps)), quoted(sorted(shell.layers))
        raise FormatError(f"{_named(entry)}: field steps: found {found}, expected {expected}.")
    if isinstance(shell.spec, NetworkSpec):
        run_flow(shell.spec, entry.steps)
    if isinstance(shell.spec, EncoderDecoderSpec):
        for side in (shell.spec.encoder, shell.spec.decoder):
            steps = {entry.steps[layer.name] for layer in side if layer.name in entry.steps}
            if len(steps) > 1:
                raise FormatError(f"{_named(entry)}: field steps: found {sorted(steps)} for layers of one sequence.")


def module_tensors(
    entry: ModuleEntry, shell: Shell, sliced: bool, declared: Mapping[str, Declared]
) -> dict[str, Expected]:
    """Return name -> dtype and shape of every tensor of one module.

    Args:
        entry: entry in the manifest.
        shell: structure of its parent.
        sliced: whether the parent is stored as the slices of this module.
        declared: tensors of the file. An output layer may have any number of rows.
    """
    bits = (torch.uint8,)
    found = {
        f"mask/{name}": Expected((_bytes(prod(shape)),), bits) for name, shape in mask_shapes(entry, shell).items()
    }
    if entry.words is not None:
        found["words"] = Expected((_bytes(shell.spec.classes),), bits)
    if not entry.shares_head:
        head = declared.get("head.weight")
        rows = entry.words or (head.shape[0] if head is not None and len(head.shape) == 2 else 1) or 1
        rows = 1 if OUTPUTS[shell.spec.output].numbers else rows
        narrow = sliced or (entry.mode is Mode.ROLLED and entry.words is None and shell.skeleton is not None)
        found["head.weight"] = Expected((rows, None if narrow else shell.spec.features), shell.floats)
        found["head.bias"] = Expected((rows,), shell.floats)
    if entry.compact and not sliced and entry.shares is None:
        for name, layer in _own_layers(entry, shell).items():
            for key, weight in layer.module.named_parameters():
                found[f"layer/{name}/{key}"] = Expected((None,) * weight.dim(), shell.floats)
    if entry.bridged and isinstance(shell.spec, EncoderDecoderSpec):
        found |= {f"bridge/{layer.name}": Expected((None,) * 3, shell.floats) for layer in shell.spec.decoder}
    return found


def mask_shapes(entry: ModuleEntry, shell: Shell) -> dict[str, tuple[int, ...]]:
    """Return layer -> shape of its mask: (H,) if rolled, (T, H) if unrolled; by gates (G, H) or (T, G, H)."""
    view = Concern({}, entry.steps, entry.mode, entry.by_gates, entry.edges)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in _own_layers(entry, shell).items():
        shape = (len(layer.cell.gates), layer.units) if layer.cell and view.has_gates(layer) else (layer.units,)
        unrolled = entry.mode is Mode.UNROLLED and (layer.cell is not None or entry.steps[name] > 1)
        shapes[name] = (entry.steps[name], *shape) if unrolled else shape
    return shapes


def read_concern(entry: ModuleEntry, shell: Shell, tensors: Mapping[str, Tensor], budget: Budget) -> Concern:
    """Read the masks of a module. In memory a mask needs a byte per bit, and four more in an unrolled module."""
    kept = {}
    for name, shape in mask_shapes(entry, shell).items():
        budget.spend(prod(shape) * (5 if entry.mode is Mode.UNROLLED else 1))
        packed = tensors[f"mask/{name}"].numpy()
        kept[name] = np.unpackbits(packed, count=prod(shape)).astype(bool).reshape(shape)
    return Concern(kept, entry.steps, entry.mode, entry.by_gates, entry.edges)


def read_words(entry: ModuleEntry, shell: Shell, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return ascending indices (R,) of the output columns that a module of a language keeps; None for others."""
    if entry.words is None:
        return None
    assert isinstance(shell.spec, EncoderDecoderSpec)
    found = np.flatnonzero(np.unpackbits(tensors["words"].numpy(), count=shell.spec.classes))
    if len(found) != entry.words:
        raise FormatError(f"{_named(entry)}: field words: found {len(found)} words, expected {entry.words}.")
    tag = shell.spec.languages[entry.index]
    if tag.end not in found:
        raise FormatError(
            f"{_named(entry)}: field words: the last token of its language ({tag.end}) is not among them."
        )
    return torch.from_numpy(found)


def _own_layers(entry: ModuleEntry, shell: Shell) -> dict[str, Layer]:
    return {name: layer for name, layer in shell.layers.items() if name in entry.steps}


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _named(entry: ModuleEntry) -> str:
    return f"module {quoted(entry.label)!r}"
