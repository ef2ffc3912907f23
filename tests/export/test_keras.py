"""Networks, modules and compositions as Keras files: the same results in the own reader, in Keras 3 and in tf-keras."""

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import unbraid
from tests.locations import DATA
from unbraid.demo.small import small_examples, small_modules, small_network
from unbraid.errors import ArgumentError, FormatError, UnbraidError, UnsupportedLayer
from unbraid.export.keras_graph import graph_layers, started
from unbraid.export.keras_model import KerasModel, Node, serialized
from unbraid.networks.graph.own import OWN
from unbraid.networks.graph_spec import CallSpec, LayerSpec
from unbraid.networks.keras.reading import load_keras

FILES = ["average", "backwards_pair", "dense", "features", "functional_features", "gru", "labels", "lstm", "repeat",
         "tagger",
         "two_layers_in_one", "unbiased"]  # fmt: skip

GRAPHS = ["bidirectional_states", "conv1d_pool", "gru_elu", "k2-conv_lstm", "k2-gru_elu", "layer_norm",
          "multi_head_masked", "nested_functional", "normalization", "seq2seq_attention", "shared_lstm",
          "time_nested_cnn", "two_outputs", "words_and_numbers"]  # fmt: skip
HABITS = DATA / "keras" / "habits"
MASKED = ["k2-masked_concatenate", "k2-masked_multiply", "k2-masked_rescaling"]  # Keras 3 computes other values
REFUSED = [*MASKED, "k2-op_matmul"]  # Keras 3 has no such operation
WRITTEN = sorted(p.stem for p in HABITS.glob("*.keras") if p.stem not in REFUSED)


def opened(name):
    """A network of a Keras file, inputs, and every label in turn."""
    path = DATA / "keras" / f"k3-{name}.keras"
    network, x = load_keras(path), np.load(path.with_suffix(".npz"))["x"]
    x = np.tile(x, (8, *[1] * (x.ndim - 1)))
    shape = network.logits(x).shape
    turn = np.arange(np.prod(shape[:-1])).reshape(shape[:-1])
    labels = (turn[..., None] + np.arange(shape[-1])) % 2 == 0 if network.independent else turn % network.classes
    return network, x, labels


def written(folder, name):
    """Write all that can be written of a network; path of the file -> inputs and what Keras must give, (N, C)."""
    network, x, y = opened(name)
    found = {"network": network}
    if name != "average":  # its directions are merged unit by unit
        found["shrunk"] = unbraid.shrink(network, x, keep=0.5)
    for strategy in ("reconstruct", "paper"):
        parts = unbraid.decompose(network, (x, y), strategy=strategy)
        found |= {f"{strategy}-module": parts[network.labels[0]], f"{strategy}-composition": unbraid.compose(parts)}
    files = {}
    for kind, model in found.items():
        path = folder / f"{name}-{kind}.keras"
        try:
            unbraid.export_keras(model, path)
        except UnsupportedLayer as error:
            assert "more than two rows" in str(error) and "composition" in kind
            assert not path.exists()
            continue
        files[path] = x, model.predict_proba(x)
    return files


def graph(name):
    """A network that is a graph, its inputs, and every class in turn."""
    path = DATA / "keras" / "graphs" / f"{name if name.startswith('k2-') else f'k3-{name}'}.keras"
    network = load_keras(path, output="last" if name == "two_outputs" else None)
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = [np.tile(stored[key], (8, *[1] * (stored[key].ndim - 1))) for key in sorted(stored) if key != "y"]
    x = tuple(arrays) if len(arrays) > 1 else arrays[0]
    shape = network.logits(x).shape[:-1]
    return network, x, np.arange(np.prod(shape)).reshape(shape) % network.classes


def written_graphs(folder, name):
    """As :func:`written`, of a graph."""
    network, x, y = graph(name)
    parts = unbraid.decompose(network, (x, y), strategy="paper")
    composed = unbraid.compose(parts)
    found = {
        "network": network,
        "shrunk": unbraid.shrink(network, x, keep=0.5),
        "module": parts[network.labels[0]],
        "composition": composed,
        "fused": composed.fuse(),
    }
    files = {}
    for kind, model in found.items():
        path = folder / f"{name}-{kind}.keras"
        unbraid.export_keras(model, path)
        files[path] = x, model.predict_proba(x)
    return files


def written_habits(folder, name):
    """As :func:`written`, of a model as people write it: operations, masks, activations that are layers."""
    network = load_keras(HABITS / f"{name}.keras")
    with np.load(HABITS / f"{name}.npz") as stored:
        arrays = [np.tile(stored[key], (8, *[1] * (stored[key].ndim - 1))) for key in sorted(stored) if key != "y"]
    x = tuple(arrays) if len(arrays) > 1 else arrays[0]
    shape = network.logits(x).shape[:-1]
    y = np.arange(np.prod(shape)).reshape(shape) % max(network.classes, 2)
    numbers = network.task == "regression"
    parts = unbraid.decompose(network, x) if numbers else unbraid.decompose(network, (x, y), strategy="paper")
    found = {"network": network, "module": parts[network.labels[0]], "fused": unbraid.compose(parts).fuse()}
    if numbers or len(np.unique(network.predict_index(x))) > 1:  # shrink reads several classes
        found["shrunk"] = unbraid.shrink(network, x, keep=0.5)
    files = {}
    for kind, model in found.items():
        path = folder / f"{name}-{kind}.keras"
        unbraid.export_keras(model, path)
        files[path] = x, model.predict(x) if model.task == "regression" else model.predict_proba(x)
    return files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
def test_keras_gives_the_same(tmp_path, name):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    files = written(tmp_path, name)
    assert len(files) >= 4
    for path, (x, wanted) in files.items():
        found = keras.models.load_model(path).predict(x, verbose=0).reshape(wanted.shape)
        valid = ~np.isnan(wanted)  # padded timesteps have no result here
        np.testing.assert_allclose(found[valid], wanted[valid], atol=1e-5, err_msg=path.name)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_gives_the_same_as_a_graph(tmp_path, name):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    for path, (x, wanted) in written_graphs(tmp_path, name).items():
        found = keras.models.load_model(path).predict(x, verbose=0)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5, err_msg=path.name)


@pytest.mark.parametrize("name", ["seq2seq_attention", "time_nested_cnn", "words_and_numbers"])
def test_a_graph_is_read_again(tmp_path, name):
    network, x, _ = graph(name)
    small = unbraid.shrink(network, x, 0.5)
    unbraid.export_keras(small, tmp_path / "small.keras")
    again = load_keras(tmp_path / "small.keras")
    np.testing.assert_allclose(again.predict_proba(x), small.predict_proba(x), atol=1e-5)
    assert (tmp_path / "small.keras").stat().st_size > 0


def test_layers_without_an_effect_are_left_out(tmp_path):
    network, x, _ = graph("conv1d_pool")
    old = network.spec.graph
    spec = old.model_copy(
        update={
            "layers": [*old.layers, LayerSpec(name="noise", kind="GaussianNoise")],
            "calls": [CallSpec(layer="noise", reads=[(0, 0)])]
            + [
                call.model_copy(update={"reads": [(n + (n > 0), output) if n else (1, 0) for n, output in call.reads]})
                for call in old.calls
            ],
            "output": (old.output[0] + 1, 0),
        }
    )
    noisy = unbraid.Network(network.spec.model_copy(update={"graph": spec}), network.weights())
    unbraid.export_keras(noisy, tmp_path / "again.keras")
    np.testing.assert_allclose(
        load_keras(tmp_path / "again.keras").predict_proba(x), network.predict_proba(x), atol=1e-5
    )
    assert b"GaussianNoise" not in zipfile.ZipFile(tmp_path / "again.keras").read("config.json")


def test_settings_that_keras_2_does_not_have_are_left_out(tmp_path):
    network, _, _ = graph("layer_norm")
    unbraid.export_keras(network, tmp_path / "again.keras")
    config = json.loads(zipfile.ZipFile(tmp_path / "again.keras").read("config.json"))["config"]
    norms = [layer["config"] for layer in config["layers"] if layer["class_name"] == "LayerNormalization"]
    assert norms and all("rms_scaling" not in norm and "axis" in norm for norm in norms)


def test_a_long_chain_of_calls(tmp_path):
    """The layers are sorted without recursion; one layer may be called more often than Python may recurse."""
    model = KerasModel([3], "x")
    value = model.input, 0, 0
    name = model.add("Dense", {"units": 3}, (), "dense", {"": [np.eye(3), np.zeros(3)]})
    for _ in range(2000):
        value = name, model.call(name, Node((value,))), 0
    config = json.loads(zipfile.ZipFile(io.BytesIO(model.content(value))).read("config.json"))["config"]
    assert [layer["name"] for layer in config["layers"]] == ["x", "dense"]
    assert len(config["layers"][1]["inbound_nodes"]) == 2000


def test_code_of_the_user_is_not_written(tmp_path):
    network, _, _ = graph("conv1d_pool")
    layers = [
        layer.model_copy(update={"kind": OWN, "settings": {}, "weights": {}})
        if getattr(layer, "kind", "") == "MaxPooling1D"
        else layer
        for layer in network.spec.graph.layers
    ]
    own = network.spec.graph.model_copy(update={"layers": layers})
    with pytest.raises((UnsupportedLayer, FormatError), match="code of your own"):
        graph_layers(started(own), own, {})


def test_a_fused_composition_is_read_again(tmp_path):
    parts, x, _ = small_modules()
    fused = unbraid.compose(parts).fuse()
    unbraid.export_keras(fused, tmp_path / "small.keras")
    again = unbraid.load(tmp_path / "small.keras", labels=fused.labels)
    np.testing.assert_allclose(again.predict_proba(x), fused.predict_proba(x), atol=1e-5)


def test_a_calibrated_composition(tmp_path):
    parts, x, y = small_modules()
    model = unbraid.compose(parts).fuse().with_calibration(x, y)
    try:
        unbraid.export_keras(model, tmp_path / "small.keras")
    except UnsupportedLayer as error:
        assert "more than two rows" in str(error)
        return
    again = load_keras(tmp_path / "small.keras")
    np.testing.assert_allclose(again.predict_proba(x), model.predict_proba(x), atol=1e-5)


def test_a_regression(tmp_path):
    path = DATA / "keras" / "losses" / "k3-regressor.keras"
    network, x = load_keras(path), np.load(path.with_suffix(".npz"))["x"]
    unbraid.export_keras(network, tmp_path / "again.keras")
    again = load_keras(tmp_path / "again.keras", task="regression")
    np.testing.assert_allclose(again.predict(x), network.predict(x), atol=1e-6)


def sensor(before=False, bidirectional=False):
    """A Keras graph: Normalization, a recurrent layer and a hidden Dense, behind or before it; examples of it."""
    model = KerasModel([6, 4], "x")
    random = np.random.default_rng(0)

    def normal(*size):
        return random.normal(size=size)

    def dense(name, inputs, units, function, read):
        settings = {"units": units, "activation": function, "use_bias": True}
        return model.add("Dense", settings, (read,), name, {"": [normal(inputs, units), np.zeros(units)]})

    scales = {"": [np.zeros(4), np.ones(4), np.array(0)]}
    value, width = model.add("Normalization", {"axis": -1}, (model.input,), "scale", scales), 4
    if before:
        value, width = dense("hidden", 4, 9, "tanh", value), 9
    settings = {"units": 8, "activation": "tanh", "recurrent_activation": "sigmoid", "return_sequences": False}
    cell = [normal(width, 32), normal(8, 32) / 3, np.zeros(32)]
    if bidirectional:
        one = [serialized("LSTM", {"name": name, "go_backwards": name == "b", **settings}) for name in "ab"]
        both = {"merge_mode": "concat", "layer": one[0], "backward_layer": one[1]}
        arrays = {"forward_layer/cell": cell, "backward_layer/cell": cell}
        value = model.add("Bidirectional", both, (value,), "lstm", arrays)
    else:
        value = model.add("LSTM", settings, (value,), "lstm", {"cell": cell})
    width = 16 if bidirectional else 8
    if not before:
        value, width = dense("hidden", width, 12, "tanh", value), 12
    content = model.content(dense("out", width, 3, "softmax", value))
    x = normal(90, 6, 4).astype(np.float32)
    return content, x


@pytest.mark.parametrize("name", MASKED)
def test_masks_that_keras_3_passes_on_in_another_way(tmp_path, name):
    network = load_keras(HABITS / f"{name}.keras")
    with pytest.raises(UnbraidError, match=r"in Keras 3 that differ by up to .*, as both pass masks on"):
        unbraid.export_keras(network, tmp_path / "again.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["k3-masked_maximum", "k3-masked_multiply"])
def test_masks_that_keras_2_passes_on_in_another_way(tmp_path, name):
    network = load_keras(HABITS / f"{name}.keras")
    unbraid.export_keras(network, tmp_path / "again.keras")
    metadata = json.loads(zipfile.ZipFile(tmp_path / "again.keras").read("metadata.json"))
    assert metadata["keras_version"] == "3.0.0"


def hard(layer, masked):
    """A Keras graph with hard_sigmoid behind numbers or masked words, and examples of it."""
    model, random = KerasModel([5] if masked else [5, 4], "x"), np.random.default_rng(1)
    settings, kind, arrays = {"activation": "hard_sigmoid"}, layer, {}
    if layer == "TimeDistributed":
        inner = serialized("Activation", {"name": "inner", "dtype": "float32", **settings})
        settings = {"layer": inner}
    if layer == "Conv1D":
        settings |= {"filters": 4, "kernel_size": [2], "padding": "same", "use_bias": True}
        arrays = {"": [random.normal(size=(2, 4, 4)), np.zeros(4)]}
    if masked:
        words = {"input_dim": 9, "output_dim": 4, "mask_zero": True}
        value = model.add("Embedding", words, (model.input,), "words", {"": [random.normal(size=(9, 4)) * 3]})
        x = random.integers(1, 9, (20, 5)) * (random.random((20, 5)) < 0.6)
    else:
        scales = {"": [np.zeros(4), np.ones(4), np.array(0)]}
        value = model.add("Normalization", {"axis": -1}, (model.input,), "scale", scales)
        x = random.normal(size=(20, 5, 4)).astype(np.float32) * 4
    value = model.add(kind, settings, (value,), "hard", arrays)
    settings = {"units": 6, "activation": "tanh", "use_bias": True, "return_sequences": False}
    cell = {"cell": [random.normal(size=(4, 6)), random.normal(size=(6, 6)) / 3, np.zeros(6)]}
    value = model.add("SimpleRNN", settings, (value,), "rnn", cell)
    out = {"units": 3, "activation": "softmax", "use_bias": True}
    value = model.add("Dense", out, (value,), "out", {"": [random.normal(size=(6, 3)), np.zeros(3)]})
    return model.content(value), x


HARD = [("Activation", False), ("Activation", True), ("Conv1D", False), ("TimeDistributed", False),
        ("TimeDistributed", True)]  # fmt: skip


def written_hard(folder, case):
    """As :func:`written`, of a graph of :func:`hard`."""
    content, x = hard(*case)
    name = "hard-" + "-".join(map(str, case))
    (folder / f"{name}.given.keras").write_bytes(content)
    network = load_keras(folder / f"{name}.given.keras")
    assert case == ("Activation", True) or network.spec.type == "keras"
    path = folder / f"{name}.keras"
    unbraid.export_keras(network, path)
    assert b"hard_sigmoid" not in zipfile.ZipFile(path).read("config.json")
    return {path: (x, network.predict_proba(x))}


@pytest.mark.parametrize("case", HARD, ids=str)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_hard_sigmoid_that_is_a_layer_of_a_graph(tmp_path, case):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    ((path, (x, wanted)),) = written_hard(tmp_path, case).items()
    found = keras.models.load_model(path).predict(x, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("before", "bidirectional"), [(False, False), (True, False), (False, True)])
def test_hidden_dense_layers_of_graphs_have_the_units_that_are_kept(tmp_path, before, bidirectional):
    content, x = sensor(before, bidirectional)
    (tmp_path / "sensor.keras").write_bytes(content)
    network = load_keras(tmp_path / "sensor.keras")
    parts = unbraid.decompose(network, (x, np.arange(90) % 3), keep=0.4)
    fused = unbraid.compose(parts).fuse(x)
    unbraid.export_keras(fused, tmp_path / "fused.keras")
    again = load_keras(tmp_path / "fused.keras")
    np.testing.assert_allclose(again.predict_proba(x), fused.predict_proba(x), atol=1e-5)
    assert again.layers["hidden"].units < network.layers["hidden"].units
    unbraid.export_keras(parts[0], tmp_path / "module.keras")
    alone = load_keras(tmp_path / "module.keras", task="regression").predict(x)[:, 0]
    np.testing.assert_allclose(alone, parts[0].predict_proba(x), atol=1e-5)


def test_the_file_is_read_again_before_it_is_written(tmp_path, monkeypatch):
    network, _, _ = graph("layer_norm")
    path = tmp_path / "small.keras"
    old = b"PK\x03\x04old"
    path.write_bytes(old)
    original = KerasModel.content

    def doubled(self, output):
        for arrays in self._arrays.values():
            arrays[""] = [2 * array for array in arrays[""]]
        return original(self, output)

    monkeypatch.setattr(KerasModel, "content", doubled)
    with pytest.raises(UnbraidError, match="differ by"):
        unbraid.export_keras(network, path)
    monkeypatch.setattr(KerasModel, "content", lambda self, output: original(self, output)[:-200])
    with pytest.raises(UnbraidError, match="read again"):
        unbraid.export_keras(network, path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1
    unbraid.export_keras(network, path, check=False)
    assert path.read_bytes() != old


def test_what_cannot_be_written_is_refused(tmp_path):
    network = small_network()
    examples = small_examples(network)
    unrolled = unbraid.decompose(network, examples, strategy="paper", mode="unrolled")
    product = load_keras(DATA / "keras" / "habits" / "k2-op_matmul.keras")
    for model, part in ((product, "computes matmul"), (unrolled[network.labels[0]], "unrolled")):
        with pytest.raises(UnsupportedLayer, match=part):
            unbraid.export_keras(model, tmp_path / "small.keras")
    with pytest.raises(ArgumentError, match="compose"):
        unbraid.export_keras(unrolled, tmp_path / "small.keras")
    with pytest.raises(UnbraidError, match="referee"):
        unbraid.export_keras(unbraid.compose(small_modules()[0]).with_referee(*examples), tmp_path / "small.keras")
    with pytest.raises(FormatError):
        unbraid.export_keras(network, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["q.h5", "q.txt", "q", "q.KERAS"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(FormatError, match=r"does not end with '\.keras'.*'q\.keras'"):
        unbraid.export_keras(small_network(), tmp_path / name)
    assert not list(tmp_path.iterdir())


LOAD = """
import importlib, json, sys, zipfile
import numpy as np
keras = importlib.import_module(sys.argv[1])
three = keras.__version__ >= "3"


def modern(path):  # only Keras 3 reads it
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("metadata.json"))["keras_version"] >= "3"


paths = [path for path in sys.argv[2:] if three or not modern(path)]
apart = {}
for number, path in enumerate(paths, 1):
    given = np.load(path[:-6] + ".npz")
    x = [given[name] for name in sorted(given.files) if name != "y"]
    try:
        model = keras.models.load_model(path, compile=False)
        # called, not predict(), which compiles every model anew and takes ten times as long
        found = np.asarray(model(x if len(x) > 1 else x[0], training=False)).reshape(given["y"].shape)
        largest = float(np.nanmax(np.abs(found - given["y"])))
        if not (largest < 1e-5 and (np.isfinite(found) | np.isnan(given["y"])).all()):
            apart[path] = largest
    except Exception as error:
        apart[path] = repr(error)
    name = path.split("/")[-1]
    print(f"{keras.__version__}: {number} of {len(paths)}", name, apart.get(path, ""), flush=True)
print(len(paths) - len(apart), "of", len(paths), "equal", flush=True)
sys.exit(bool(apart))
"""


@pytest.fixture(scope="module")
def all_files(tmp_path_factory):
    """Paths of all files; beside each are its inputs and what Keras must give."""
    folder = tmp_path_factory.mktemp("files")
    names: list[str] = []
    for makes, given in ((written, FILES), (written_graphs, GRAPHS), (written_habits, WRITTEN), (written_hard, HARD)):
        for name in given:
            for path, (x, wanted) in makes(folder, name).items():
                arrays = {f"x{place}": part for place, part in enumerate(x if isinstance(x, tuple) else [x])}
                np.savez(path.with_suffix(".npz"), y=wanted, **arrays)
                names.append(str(path))
    return names


@pytest.mark.keras
@pytest.mark.skipif("UNBRAID_KERAS_PYTHON" not in os.environ, reason="make test-keras runs it")
@pytest.mark.parametrize(("library", "least"), [("keras", 266), ("tf_keras", 183)])
@pytest.mark.filterwarnings("ignore:.*reshapes the outputs:unbraid.errors.UnbraidWarning")
def test_plain_keras_gives_the_same(all_files, library, least, capfd):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "KERAS_BACKEND")}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    command = [os.environ["UNBRAID_KERAS_PYTHON"], "-c", LOAD, library, *all_files]
    assert sys.executable not in command
    with capfd.disabled(), subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        last = ""
        for line in running.stdout:  # progress, of some minutes
            last = line.strip()
            print(last, flush=True)
    assert running.returncode == 0
    same, _, files, *_ = last.split()
    assert same == files and int(files) >= least
