"""Shrink a trained network: the same class, with fewer hidden units. No labels are needed.

Shapes: N examples, T timesteps, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from unbraid.config import LayerChoice
from unbraid.decomposition.reconstruction.size_search import held_out_split, smallest
from unbraid.decomposition.shrinking.graphs import GraphShrinker
from unbraid.decomposition.shrinking.inputs import module_inputs
from unbraid.decomposition.shrinking.merged import kept_whole
from unbraid.decomposition.shrinking.networks import NetworkShrinker, change
from unbraid.decomposition.shrinking.sources import Source
from unbraid.decomposition.shrinking.telling import warn_whole
from unbraid.decomposition.shrinking.torch_modules import TorchShrinker, checked_module
from unbraid.errors import ConfigError, warn_caller, wrong_object
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.precision import check_full
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.torch_spec import TorchSpec
from unbraid.progress import Progress, shown

DEFAULT_KEEP = 0.3
STYLES = ("auto", "plain", "wrapped")

Made = TypeVar("Made", bound=nn.Module)


@torch.inference_mode(False)
@torch.enable_grad()
def shrink(
    model: nn.Module,
    x: Any,
    keep: float | None = None,
    *,
    max_loss: float | None = None,
    refine: int = 0,
    style: Literal["auto", "plain", "wrapped"] = "auto",
    layers: Literal["all", "recurrent"] = "all",
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> nn.Module:
    """Make a smaller copy of a trained network, without labels.

    Hidden units that the scores depend on least are removed. The remaining units replace them by least squares on
    ``x``. The layers that read these units are fitted to the scores of the original. There are no gradient steps unless
    ``refine`` is given.

    A PyTorch module stays an instance of its class, with the same forward and the same shapes of inputs and outputs.
    Its nn.LSTM, nn.GRU and nn.RNN layers have fewer units. Where forward accepts fewer outputs, the layers behind them
    are smaller too (``plain``). Where it does not (layer norm, reshapes to a fixed size), the smaller layer is followed
    by a linear map to the old size (``wrapped``). All levels and directions of one layer get the same number of units.
    A hidden nn.Linear has fewer units if the forward accepts fewer outputs of it, and keeps all of them otherwise.
    Layers that are combined unit by unit, such as a gate and its values, keep the same units. A layer made with
    ``bias=False`` may get a bias. Subclasses of torch's layers stay instances of them. The logger ``unbraid`` notes
    changes and layers that stay whole at level INFO.

    Args:
        model: an nn.Module with recurrent or hidden linear layers, or a Network. It is not changed.
        x: inputs as the model reads them, without labels: a tensor or array, a tuple of arguments, or a dict of
            arguments by name; for a Network also text. A few hundred examples are enough; all kinds should be in it.
        keep: share of the hidden units of each layer that stay, in (0, 1]. Default: 0.3.
        max_loss: instead of ``keep``: the smallest size that changes at most this share of the decisions on a fifth of
            ``x`` that is held out, in [0, 1). Of numbers it bounds the mean squared difference to those of the model,
            as a share of their variance. One returned number is compared so; for several pass a Network that was made
            with ``task="regression"``.
        refine: number of steps of distillation towards the scores of the original that follow, at least 0.
        style: ``auto`` chooses for each layer; ``plain`` raises an error where a layer cannot be plain; ``wrapped``
            keeps all sizes between layers, and the units of linear layers. Only for PyTorch modules.
        layers: which layers lose units: ``all`` (default), or ``recurrent`` ones only.
        seed: seed of the choice of examples, at least 0.
        progress: None, True, False or a factory of bars, as for :func:`unbraid.decompose`.

    Returns:
        the smaller module in eval mode, in the type and on the device of ``model``. For a Network made from a Keras
        file it is a Network; where its layers are a graph, those that need all units read a linear expansion. A
        Bidirectional of it whose directions are merged by ``sum``, ``mul`` or ``ave`` keeps all units.
        For a Network made from a PyTorch module it is an instance of the class of that module.

    Raises:
        UnsupportedLayer: no layer with hidden units, or one that cannot be made smaller; the message names it.
        DataError: inputs that the model does not run on.
        ConfigError: a setting out of range, or both ``keep`` and ``max_loss``.
        ArgumentError: ``model`` is not an nn.Module.

    Warns:
        UnbraidWarning: ``keep`` is below 1, and no layer of a PyTorch module has fewer units.
        UnbraidWarning: a Bidirectional keeps all units, and other layers are smaller.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> class Classifier(nn.Module):
        ...     def __init__(self, hidden=40):
        ...         super().__init__()
        ...         self.lstm = nn.LSTM(4, hidden, batch_first=True)
        ...         self.out = nn.Linear(hidden, 3)
        ...     def forward(self, x):
        ...         return self.out(self.lstm(x)[0][:, -1])
        >>> small = shrink(Classifier(), torch.randn(100, 6, 4), keep=0.25)
        >>> small.lstm, small.out
        (LSTM(4, 10, batch_first=True), Linear(in_features=10, out_features=3, bias=True))
        >>> _ = Classifier(hidden=10).load_state_dict(small.state_dict())
    """
    _check_settings(keep, max_loss, refine, seed, style=(style, STYLES), layers=(layers, tuple(LayerChoice)))
    dense = layers != "recurrent"
    if not isinstance(model, nn.Module):
        raise wrong_object(model, "model", "an nn.Module or a Network", "pass a trained instance")
    if not isinstance(model, Network):
        checked_module(model)
        return _sized(
            module_inputs(checked_module(model), x),
            lambda some: TorchShrinker(model, some, None, style, refine, seed, dense=dense),
            TorchShrinker.change,
            (keep, max_loss, seed, shown(progress)),
        )
    if isinstance(model.spec, EncoderDecoderSpec):
        raise ConfigError("encoder-decoders cannot be shrunk as a whole: decompose them, each module is small.")
    check_full(model)
    spec, inputs = model.spec, model.check(x)
    settings = keep, max_loss, seed, shown(progress)
    if isinstance(spec, TorchSpec) and not isinstance(spec, KerasSpec):
        own, sources = model.to_torch(), [Source(spec.head, output=spec.output)]
        return _sized(
            inputs,
            lambda some: TorchShrinker(own, some, sources, style, refine, seed, spec.run, dense),
            TorchShrinker.change,
            settings,
        )
    shrinker: type[NetworkShrinker] | type[GraphShrinker] = (
        GraphShrinker if isinstance(spec, KerasSpec) else NetworkShrinker
    )
    small = _sized(
        inputs,
        lambda some: shrinker(model, some, refine, seed, dense),
        lambda shrinker, small, held: change(model, small, held),
        settings,
    )
    assert isinstance(small, Network)
    if whole := kept_whole(model, small):
        warn_caller(whole)
    return small


def _sized(
    x: Inputs,
    prepare: Callable[[Inputs], Any],
    changed: Callable[[Any, Any, Inputs], float],
    settings: tuple[float | None, float | None, int, Progress],
) -> nn.Module:
    """Make the copy of the given size, or the smallest one within the loss on held-out inputs."""
    keep, max_loss, seed, progress = settings
    if max_loss is None:
        with progress("shrinking", 1) as advance:
            shrinker, share = prepare(x), DEFAULT_KEEP if keep is None else keep
            made: nn.Module = shrinker.make(share)
            advance(1)
        if shrinker.whole is not None and share < 1:
            warn_whole(
                shrinker.whole or f"keep={share} removes none; a layer keeps more units than its projection has outputs"
            )
        return made
    fitted, held = (x.take(rows) for rows in held_out_split(len(x), seed))
    shrinker = prepare(fitted)
    found = smallest(shrinker.make, lambda small: changed(shrinker, small, held) <= max_loss, progress)
    if shrinker.whole:
        warn_whole(shrinker.whole)
    return found


def _check_settings(keep: Any, max_loss: Any, refine: Any, seed: Any, **chosen: tuple[Any, tuple[str, ...]]) -> None:
    """Raise ConfigError for a setting out of range."""
    if keep is not None and max_loss is not None:
        raise ConfigError(f"keep={keep} and max_loss={max_loss} both set the size: give one of them.")
    if keep is not None and not (_is_number(keep) and 0 < keep <= 1):
        raise ConfigError(f"keep={keep!r}: expected a share of the hidden units above 0 and at most 1, such as 0.3.")
    if max_loss is not None and not (_is_number(max_loss) and 0 <= max_loss < 1):
        raise ConfigError(f"max_loss={max_loss!r}: expected a share of the decisions from 0 to below 1, such as 0.01.")
    for name, value in (("refine", refine), ("seed", seed)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ConfigError(f"{name}={value!r}: expected a whole number, at least 0.")
    for name, (value, possible) in chosen.items():
        if value not in possible:
            raise ConfigError(f"{name}={value!r}: expected one of {', '.join(repr(str(one)) for one in possible)}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
