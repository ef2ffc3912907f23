"""Replace a user's nn.Module whose code is missing: the same weights and names, but no forward method.

With it, a saved module can be inspected, copied and saved again. Running it raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import ConfigError, FormatError, UnbraidError, UnsupportedLayer, quoted
from unbraid.networks.cells import OwnCell
from unbraid.networks.own_cells import FORM, WHOLE, CellForm
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.pytorch.facts import TorchFacts
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stage_spec import DenseSpec
from unbraid.networks.stages import Dense
from unbraid.networks.torch_spec import TorchDenseSpec, TorchLayerSpec, TorchSpec

DEEPEST = 64  # largest number of nested modules
RECURRENT: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class CodelessCell(nn.Module):
    """A registered cell without its code: the same weights and names.

    Args:
        form: its form, as stored.
        units: number of hidden units H.
    """

    def __init__(self, form: CellForm, units: int) -> None:
        super().__init__()
        self.units = units
        setattr(self, FORM, form)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Raise UnbraidError."""
        raise UnbraidError(f"the code of the cell {quoted(getattr(self, FORM).name, 60)} is missing, so it cannot run.")


class Codeless(nn.Module):
    """A module without code.

    Args:
        name: name of the user's class.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.class_name = name

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Raise UnbraidError."""
        raise UnbraidError(
            f"the network is a PyTorch module ({quoted(self.class_name, 60)}) that was opened without its code, so it "
            "cannot run: load the folder with module=."
        )


def codeless(spec: TorchSpec, weights: Mapping[str, Tensor], facts: TorchFacts | None) -> nn.Module:
    """Make a module of the stored structure, on torch's meta device.

    Args:
        spec: description of the user's module.
        weights: name -> tensor, as returned by :meth:`unbraid.Network.weights`.
        facts: further facts about the module; None for older folders.

    Raises:
        FormatError: impossible layers, or names that a module cannot have.
    """
    root = Codeless(spec.module)
    own = {name.removeprefix("body.module."): t for name, t in weights.items() if name.startswith("body.module.")}
    with torch.device("meta"):
        sites: dict[str, list[TorchLayerSpec]] = {}
        for layer in spec.layers:
            sites.setdefault(layer.site, []).append(layer)
        for path, layers in sites.items():
            cell = layers[0].cell
            own_cell = isinstance(cell, OwnCell) and codeless_cell(layers[0], cell)
            _place(root, path, own_cell or _recurrent(path, layers))
        _place(root, spec.head, nn.Linear(spec.features, spec.classes, f"{spec.head}.bias" in own))
        for path, rows in (facts.embedding_rows if facts is not None else {}).items():
            table = own.get(f"{path}.weight")
            if table is None or table.dim() != 2 or len(table) != rows:
                raise FormatError(f"embedding_rows: {quoted(path)!r} has no table of {rows} rows.")
            if not table.is_floating_point():
                raise FormatError(
                    f"embedding_rows: {quoted(path)!r} is {table.dtype}, expected floating point numbers."
                )
            _place(root, path, nn.Embedding(rows, table.shape[1], _weight=torch.empty(table.shape, dtype=table.dtype)))
        buffers = set(facts.buffers) if facts is not None else None
        for path, layers in sites.items():
            if isinstance(layers[0].cell, OwnCell):
                inner = f"{path}.layers.0.own."
                more = {n.removeprefix(inner): t for n, t in own.items() if n.startswith(inner)}
                for name in more.keys() - {weight.name for weight in layers[0].cell.weights}:
                    _tensor(root.get_submodule(path), name, more[name], True)
        for dense in spec.dense:
            _place(root, dense.name, nn.Linear(dense.inputs, dense.units))
        done = (
            *(f"{path}.layers." for path in sites),
            *(f"{dense.name}." for dense in spec.dense),
            f"{spec.head}.",
            *(f"{path}." for path in _tables(facts)),
        )
        for name, tensor in own.items():
            if not name.startswith(done):
                _tensor(root, name, tensor, not tensor.is_floating_point() if buffers is None else name in buffers)
    return root


def codeless_cell(layer: TorchLayerSpec, cell: OwnCell) -> CodelessCell:
    """Make a registered cell without its code, on torch's meta device; raise FormatError for impossible sizes."""
    try:
        prune = {weight.name: weight.axes for weight in cell.weights if set(weight.axes) - {WHOLE}}
        found = CodelessCell(CellForm(cell.states, "units", prune, name=cell.name), layer.units)
        for weight in cell.weights:
            _tensor(found, weight.name, torch.empty(weight.shape, device="meta"), False)
        inputs, units = getattr(found, FORM).sizes(found)
    except (ConfigError, UnsupportedLayer) as error:
        raise FormatError(f"layer {quoted(layer.name)!r}: {error}") from None
    if (inputs, units) != (layer.inputs, layer.units):
        raise FormatError(
            f"layer {quoted(layer.name)!r}: its weights have {inputs} inputs and {units} units, expected "
            f"{layer.inputs} and {layer.units}."
        )
    return found


def shell_linear(layer: TorchDenseSpec) -> Dense:
    """Make a linear layer without memory, on torch's meta device."""
    with torch.device("meta"):
        return Dense(DenseSpec(name=layer.name, inputs=layer.inputs, units=layer.units))


def shell_layer(layer: TorchLayerSpec) -> RecurrentLayer | OwnLayer:
    """Make a recurrent layer without memory, on torch's meta device; raise FormatError for impossible sizes."""
    with torch.device("meta"):
        if not isinstance(layer.cell, OwnCell):
            return RecurrentLayer(layer.cell, layer.inputs, layer.units)
        cell = codeless_cell(layer, layer.cell)
        return OwnLayer(cell, getattr(cell, FORM))


def _tables(facts: TorchFacts | None) -> list[str]:
    return list(facts.embedding_rows) if facts is not None else []


def _recurrent(path: str, layers: list[TorchLayerSpec]) -> nn.RNNBase:
    """Make the nn.RNN, nn.LSTM or nn.GRU of a path. A later comparison with the spec finds wrong sizes."""
    first = layers[0]
    both = any(layer.name.endswith(".backward") for layer in layers)
    more = {"nonlinearity": first.cell.activation} if first.cell.kind == "rnn" else {}
    levels = max(1, len(layers) // (2 if both else 1))
    try:
        return RECURRENT[first.cell.kind](first.inputs, first.units, levels, bidirectional=both, **more)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        raise FormatError(f"layer {quoted(path)!r}: PyTorch has no such layer ({quoted(error, 80)}).") from None


def _place(root: nn.Module, path: str, part: nn.Module) -> None:
    owner, name = _owner(root, path)
    _register(owner.add_module, path, name, part)


def _tensor(root: nn.Module, path: str, tensor: Tensor, buffer: bool) -> None:
    owner, name = _owner(root, path)
    value = torch.empty(tensor.shape, dtype=tensor.dtype)
    if buffer:
        _register(owner.register_buffer, path, name, value)
    else:
        _register(owner.register_parameter, path, name, nn.Parameter(value, requires_grad=False))


def _owner(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Return the parent module of a path, and the last name of the path; make missing modules."""
    *above, name = path.split(".")
    if len(above) > DEEPEST:
        raise FormatError(f"{quoted(path, 60)!r}: modules are nested more than {DEEPEST} levels deep.")
    for part in above:
        inner = root._modules.get(part)
        if inner is None:
            inner = nn.Module()
            _register(root.add_module, path, part, inner)
        root = inner
    return root, name


def _register(register: Any, path: str, name: str, value: Any) -> None:
    try:
        register(name, value)
    except (KeyError, TypeError) as error:
        raise FormatError(f"{quoted(path, 60)!r}: no PyTorch module has this name ({quoted(error, 80)}).") from None
