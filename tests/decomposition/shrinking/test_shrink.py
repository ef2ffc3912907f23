"""shrink on PyTorch modules: shapes, exactness at full size, and how well smaller ones keep the scores."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import unbraid
from benchmarks.measure.shrink import by_magnitude
from tests.decomposition.shrinking.shrunk_models import (
    CELLS,
    Attention,
    Convolved,
    DotAttention,
    EncoderDecoder,
    LastState,
    LearnedState,
    Normed,
    OwnState,
    Packed,
    Plain,
    Pooled,
    Regressor,
    Residual,
    ReturnsState,
    Siamese,
    Stacked,
    Stateful,
    StepByStep,
    Tagger,
    TiedLanguageModel,
    TimeFirst,
    TwoHeads,
    inputs,
    made,
)
from unbraid import Network, UnbraidError, shrink
from unbraid.errors import ArgumentError, ConfigError, DataError, FormatError, UnsupportedLayer
from unbraid.networks.pytorch.wrapped import ShrunkRecurrent

PLAIN = [LastState, Tagger, Pooled, OwnState, Attention, Stacked, EncoderDecoder, StepByStep, Regressor, Residual]
WRAPPED = [Normed, DotAttention, ReturnsState, LearnedState, Convolved]


@torch.no_grad()
def scores(module, *args):
    found = module(*args)
    return (found[0] if isinstance(found, tuple) else found).double()


def error(small, module, *args):
    """Mean squared error of the scores, as a share of their variance over the examples."""
    ours, theirs = scores(small, *args), scores(module, *args)
    assert ours.shape == theirs.shape
    return float((ours - theirs).square().mean() / (theirs - theirs.mean(0)).square().mean())


def kinds(module):
    return {type(part) for part in module.modules()}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("cls", [LastState, Tagger, TimeFirst])
def test_cells_levels_directions(cls, cell, levels, bidirectional):
    kind, settings = CELLS[cell]
    settings = {"kind": kind, "num_layers": levels, "bidirectional": bidirectional, **settings}
    module, x = made(cls, **settings), inputs(120)
    x = x.transpose(0, 1) if cls is TimeFirst else x
    assert error(shrink(module, x, 1.0), module, x) < 1e-9
    small = shrink(module, x, 0.5)
    assert type(small) is cls and type(small.rnn) is kind and small.rnn.hidden_size == 8
    assert (small.rnn.num_layers, small.rnn.bidirectional) == (levels, bidirectional)
    assert small.out.in_features == 8 * (2 if bidirectional else 1)
    assert error(small, module, x) < error(by_magnitude(module, 0.5), module, x)
    made(cls, hidden=8, **settings).load_state_dict(small.state_dict())


@pytest.mark.parametrize("cls", PLAIN)
def test_forwards_that_take_fewer_outputs(cls):
    module, x = made(cls), inputs()
    before = copy.deepcopy(module.state_dict())
    assert error(shrink(module, x, 1.0), module, x) < 1e-9
    small = shrink(module, x, 0.5, style="plain")
    assert type(small) is cls and not small.training and ShrunkRecurrent not in kinds(small)
    assert [r.hidden_size for r in small.modules() if isinstance(r, nn.RNNBase)] == [
        r.hidden_size // 2 for r in module.modules() if isinstance(r, nn.RNNBase)
    ]
    assert error(small, module, x) < 0.5
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert all(p.requires_grad for p in small.parameters())


@pytest.mark.parametrize("cls", WRAPPED)
def test_forwards_that_need_all_outputs(cls):
    module, x = made(cls), inputs()
    small = shrink(module, x, 0.5)
    assert type(small) is cls and ShrunkRecurrent in kinds(small)
    assert all(r.hidden_size == 8 for r in small.modules() if isinstance(r, nn.RNNBase))
    assert error(small, module, x) < 0.5
    with pytest.raises(UnsupportedLayer, match=r"style=.plain.: recurrent layer 'rnn' cannot give fewer outputs"):
        shrink(module, x, 0.5, style="plain")


@pytest.mark.parametrize("cls", [*PLAIN, *WRAPPED])
def test_wrapped_style_never_changes_what_lies_between_layers(cls):
    module, x = made(cls), inputs()
    small = shrink(module, x, 0.5, style="wrapped")
    wide = [p for p in small.modules() if isinstance(p, ShrunkRecurrent)]
    assert len(wide) == sum(isinstance(p, nn.RNNBase) for p in module.modules())
    assert error(small, module, x) < 0.5
    shapes = {name: p.shape for name, p in module.named_parameters()}
    assert all(p.shape == shapes[name] for name, p in small.named_parameters() if name in shapes)


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("cls", [Plain, Packed, Normed])
def test_more_units_are_closer(cls, settings):
    module, x = made(cls, **settings), inputs()
    args = (x, torch.arange(len(x)) % 6 + 1) if cls is Packed else (x,)
    data = args if len(args) > 1 else x
    errors = [error(shrink(module, data, keep), module, *args) for keep in (0.125, 1.0)]
    assert errors[1] < 1e-9 < errors[0] < 1


def test_wrapped_layers_give_back_the_states_that_they_get():
    module, x = made(ReturnsState, num_layers=2, bidirectional=True), inputs()
    layer = shrink(module, x, 0.5).rnn
    h, c = torch.randn(2, 4, 3, 16)
    kept = torch.stack([own[:, units] for own, units in zip(h, layer.kept, strict=True)])
    narrow = layer.layer(x[:3], (kept, torch.stack([own[:, u] for own, u in zip(c, layer.kept, strict=True)])))
    outputs, (last, cells) = layer(x[:3], (h, c))
    for place, units in enumerate(layer.kept):
        assert torch.allclose(last[place][:, units], narrow[1][0][place], atol=1e-6)
        assert torch.allclose(cells[place][:, units], narrow[1][1][place], atol=1e-6)
    assert outputs.shape == (3, 6, 32)
    assert torch.allclose(outputs[:, -1, :16], last[2], atol=1e-6)
    assert torch.allclose(outputs[:, 0, 16:], last[3], atol=1e-6)
    assert layer(x[0])[0].shape == (6, 32)


def test_attributes_with_the_old_size_are_changed_and_noted(caplog):
    module, x = made(OwnState), inputs()
    with caplog.at_level("INFO", "unbraid"):
        small = shrink(module, x, 0.25)
    assert (small.hidden_dim, module.hidden_dim) == (4, 16)
    assert "attribute hidden_dim is now 4" in caplog.text
    OwnState(hidden_dim=4).load_state_dict(small.state_dict())


def test_layers_that_share_states_keep_the_same_units():
    module, x = made(EncoderDecoder), inputs()
    EncoderDecoder(hidden=4).load_state_dict(shrink(module, x, 0.25).state_dict())


def test_several_arguments_one_encoder():
    module, x = made(Siamese), inputs()
    args = x, x.flip(0) * 2
    small = shrink(module, args, 0.5)
    assert small.rnn.hidden_size == 8 and error(small, module, *args) < 0.9
    named = shrink(module, {"a": args[0], "b": args[1]}, 0.5)
    assert torch.equal(scores(named, *args), scores(small, *args))


def test_tied_weights_stay_tied():
    module, x = made(TiedLanguageModel), torch.randint(30, (160, 6), generator=torch.Generator().manual_seed(0))
    small = shrink(module, x, 0.5)
    assert small.out.weight is small.embedding.weight and torch.equal(small.out.weight, module.out.weight)
    assert isinstance(small.rnn, ShrunkRecurrent) and error(small, module, x) < 0.9


def test_a_stored_state_of_the_parent_is_not_touched():
    module, x = made(Stateful), inputs(16)
    small = shrink(module, x, 0.5)
    assert module.state is None and small.state is None
    assert [tuple(small(x).shape) for _ in range(2)] == [(16, 4)] * 2


def test_several_heads_are_fitted():
    module, x = made(TwoHeads), inputs()
    small = shrink(module, x, 0.5)
    assert (small.out.in_features, small.other.in_features) == (8, 8)
    assert error(small, module, x) < 0.5
    ours, theirs = small(x)[1], module(x)[1]
    assert (ours - theirs).square().mean() < (theirs - theirs.mean(0)).square().mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types_stay(dtype):
    module, x = made(Normed).to(dtype), inputs().to(dtype)
    for found in (shrink(module, x, 0.5), shrink(made(Plain).to(dtype), x, 0.5)):
        assert {p.dtype for p in found.parameters()} == {dtype} and found(x).dtype == dtype


def test_a_layer_without_bias_gets_one():
    module, x = made(Plain, bias=False), inputs()
    assert not shrink(module, x, 1.0).rnn.bias
    small = shrink(module, x, 0.5)
    assert small.rnn.bias and error(small, module, x) < 0.5


def test_the_same_twice_and_numpy_inputs():
    module, x = made(Stacked), inputs(900)
    first, second = shrink(module, x, 0.5, seed=1), shrink(module, x.numpy(), 0.5, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_refine_moves_the_scores_closer():
    module, x = made(LastState), inputs()
    plain, refined = (shrink(module, x, 0.25, refine=steps) for steps in (0, 60))
    assert error(refined, module, x) < error(plain, module, x)


def test_max_loss_on_decisions():
    module, x = made(Plain), inputs(400)
    small, large = (shrink(module, x, max_loss=loss) for loss in (0.9, 0.0))
    assert small.rnn.hidden_size == 1
    assert (
        large.rnn.hidden_size >= 1 and scores(large, x).argmax(-1).eq(scores(module, x).argmax(-1)).float().mean() > 0.8
    )
    numbers = made(Regressor)
    sizes = [shrink(numbers, x, max_loss=loss).rnn.hidden_size for loss in (0.9, 1e-9)]
    assert 1 <= sizes[0] <= sizes[1] <= numbers.rnn.hidden_size


def test_networks_of_modules_give_the_class_of_the_module():
    module, x = made(Tagger, bidirectional=True), inputs()
    network = Network.from_torch(module, x[:5])
    small = shrink(network, x.numpy(), 0.5)
    assert type(small) is Tagger and small.rnn.hidden_size == 8
    assert error(shrink(network, x, 1.0), module, x) < 1e-9
    assert error(small, module, x) < 0.5
    again = Network.from_torch(small, x[:5])
    assert np_equal(again.logits(x), small(x))


def np_equal(logits, wanted):
    return torch.allclose(torch.from_numpy(logits), wanted.detach(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:The tensor attributes self.rnn")  # torch warns about its own layers
@pytest.mark.parametrize("cls", [Plain, Normed, OwnState])
def test_saved_copied_exported_quantized(cls):
    module, x = made(cls), inputs()
    small = shrink(module, x, 0.5)
    wanted = scores(small, x)
    assert torch.allclose(scores(pickle.loads(pickle.dumps(small)), x), wanted, atol=1e-6)
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    again = copy.deepcopy(small)
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(scores(again, x), wanted)
    exported = torch.export.export(small, (x,)).module()
    assert torch.allclose(scores(exported, x), wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [Plain, Attention, Normed])
def test_quantized_layers(cls):
    if not torch.backends.quantized.supported_engines or torch.backends.quantized.engine == "none":
        pytest.skip("no engine for quantized layers")
    module, x = made(cls), inputs()
    small = shrink(module, x, 0.5)
    quantized = torch.ao.quantization.quantize_dynamic(small, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    found = [part for part in quantized.modules() if isinstance(part, torch.ao.nn.quantized.dynamic.LSTM)]
    assert len(found) == 1 and found[0].hidden_size == 8
    spread = scores(module, x).std()
    assert (scores(quantized, x) - scores(small, x)).abs().max() < spread


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0}, "keep=0: expected a share"),
        ({"keep": 1.5}, "keep=1.5: expected a share"),
        ({"keep": True}, "keep=True: expected a share"),
        ({"keep": 0.5, "max_loss": 0.1}, "keep=0.5 and max_loss=0.1 both set the size"),
        ({"max_loss": -0.1}, "max_loss=-0.1: expected"),
        ({"refine": -1}, "refine=-1: expected a whole number"),
        ({"seed": "a"}, "seed='a': expected a whole number"),
        ({"style": "thin"}, "style='thin': expected one of"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        shrink(made(Plain), inputs(), **settings)


def test_wrong_models_and_inputs():
    with pytest.raises(ArgumentError, match=r"model: expected an nn\.Module or a Network, got str"):
        shrink("model.pt", inputs())
    with pytest.raises(UnsupportedLayer, match="no recurrent layer"):
        shrink(nn.Linear(6, 4), inputs())
    with pytest.raises(DataError, match="x does not run through the module"):
        shrink(made(Plain), torch.randn(20, 6, 7))
    with pytest.raises(DataError, match="x has no examples"):
        shrink(made(Plain), torch.randn(0, 6, 6))
    with pytest.raises(DataError, match="x holds NaN"):
        shrink(made(Plain), torch.full((4, 6, 6), torch.nan))
    with pytest.raises(DataError, match="which has no tensor"):
        shrink(made(Plain), {"x": 3})
    broken = made(Plain)
    broken.out.weight.data[0, 0] = torch.nan
    with pytest.raises(FormatError, match="NaN"):
        shrink(broken, inputs())
    assert issubclass(DataError, UnbraidError) and "shrink" in unbraid.__all__


def test_one_example_is_enough_to_run():
    module = made(Plain)
    assert shrink(module, inputs(1), 0.5)(inputs(3)).shape == (3, 4)


def test_a_module_with_code_around_its_layer_is_refused():
    module = made(Plain)
    module.rnn.register_forward_hook(lambda part, args, result: (result[0] * 2, result[1]))
    with pytest.raises(UnsupportedLayer, match="computes other values with plain layers"):
        shrink(module, inputs(), 0.5)
