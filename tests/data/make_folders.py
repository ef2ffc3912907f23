"""Write ``format2/``: folders saved by this version, for ``tests/storage/test_format.py`` of later versions.

``python -m tests.data.make_folders``. Run it only for a new number of the format, never to make a test pass.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from tests import factory
from tests.translation import talking
from unbraid import Composition, Translator, Vocabulary, compose, decompose
from unbraid.storage.manifest import FORMAT

PLACE = Path(__file__).parent / f"format{FORMAT}"


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    network = factory.network(("lstm", "vanilla"), labels=["home", "travel", "bank"], seed=7)
    x, y = factory.examples(network, 60, 7)
    network.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS))
    small = decompose(network, (x, y), keep=0.5)
    papers = decompose(network, (x, y), strategy="paper", mode="unrolled", samples_per_class=20)
    tagger = factory.network(("gru",), "M:N", seed=2)
    tagger.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS))
    tags = decompose(tagger, factory.examples(tagger, 60, 2), strategy="paper", gates="each", samples_per_class=20)
    mixed = Composition({"home": small["home"], "travel": papers["travel"], "noun": tags[1]}, vote="probability")
    rng = np.random.default_rng(0)
    made = {
        "decomposition": compose(small),
        "module": compose([papers["bank"]]),
        "composition": mixed.with_referee(x, rng.integers(0, 3, len(x))),
        "fused": compose(small).drop("bank").fuse(x),
    }
    small.save(PLACE / "decomposition")
    papers["bank"].save(PLACE / "module")
    made["composition"].save(PLACE / "composition", license="mit", scores={"accuracy": 0.5})
    made["fused"].save(PLACE / "fused")
    np.savez(PLACE / "margins.npz", x=x, **{name: composition.margins(x) for name, composition in made.items()})
    translator = Translator(talking.modules())
    translator.save(PLACE / "translator")
    said = {language: translator.translate(talking.TEXTS, to=language) for language in translator.languages}
    (PLACE / "said.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
