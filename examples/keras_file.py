"""Read a Keras file without Keras, decompose the network, save its modules and compose two of them.

    python examples/keras_file.py [MODEL.h5 or .keras [EXAMPLES.npz with x and y]]

Without examples, random inputs are labelled with the network's own decisions. The accuracy is then the share of the
decisions that stay the same. The default file is a small untrained network with three hidden units: modules that keep
all of them (keep=1) give the same decisions, and modules that keep two of them change one decision in seven.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import unbraid

DEFAULT = Path(__file__).parents[1] / "tests" / "data" / "keras" / "k3-any_length.keras"

path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
network = unbraid.load(path)
print(f"{path.name}: {network.io.value}, {network.classes} classes, layers {', '.join(network.layers)}")
if len(sys.argv) > 2:
    with np.load(sys.argv[2]) as arrays:
        x, y = arrays["x"], arrays["y"]
else:
    first = network.spec.stages[0]
    if first.type != "embedding":
        raise SystemExit("this network reads features, not words: pass a file of examples.")
    x = np.random.default_rng(0).integers(1, first.vocabulary, (4000, network.spec.steps or 20))
    y = network.predict_index(x)

for keep in (0.5, 1.0):
    parts = unbraid.decompose(network, (x, y), keep=keep)
    result = unbraid.evaluate(unbraid.compose(parts), (x, y), against=network)
    print(f"-- keep ratio {keep}", result, sep="\n")

with tempfile.TemporaryDirectory() as folder:
    parts.save(f"{folder}/parts")
    again = unbraid.load_decomposition(f"{folder}/parts")
    same = all(np.array_equal(parts[label].margins(x), again[label].margins(x)) for label in parts)
    print(f"{sum(f.stat().st_size for f in Path(folder, 'parts').iterdir())} bytes; equal after loading: {same}")

few = unbraid.compose([parts[label] for label in parts.labels[:2]])
result = unbraid.evaluate(few, (x, y), against=network)
print(f"only {few.labels}: accuracy {result.accuracy:.4f} on their {result.decisions} examples")
