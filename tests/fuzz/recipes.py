"""Recipes beside the folders and samples that they name."""

from functools import cache

import yaml

from tests import factory
from tests.fuzz import bases, data_files, npz_files, raw_bytes, trees, using, values
from tests.fuzz.kinds import Kind
from tests.fuzz.library import build_recipe

RECIPES = [
    {"modules": [{"from": "parts"}]},
    {"title": "T", "description": "D", "license": "mit", "vote": "probability",
     "modules": [{"from": "parts", "labels": ["home", "travel"]}, {"from": "other", "labels": {"money": "bank"}}]},
    {"modules": [{"from": "parts", "labels": {"home": "travel", "travel": "home"}}],
     "calibration": {"sample": "sample.npz", "x": "x", "y": "y", "referee": "true"}},
    {"modules": [{"from": "module"}, {"from": "parts", "labels": ["home"]}], "calibration": {"sample": "sample.csv"}},
]  # fmt: skip
KNOWN = {
    "from": [
        "parts",
        "module",
        "other",
        "fused",
        "missing",
        ".",
        "..",
        "",
        "sample.npz",
        "recipe.yaml",
        "parts/unbraid.json",
        "pipe",
    ],
    "sample": ["sample.npz", "sample.csv", "parts", "missing.npz", "recipe.yaml", "pipe.csv"],
    "vote": ["margin", "probability", "loudest"],
    "referee": ["true", "false", "no", "1", "maybe"],
    "labels": [["home"], ["home", "home"], ["nowhere"], {"a": "home", "b": "home"}, [], {}],
}
SYNTAX = [
    "a: &a [*a]\n", "!!python/object/apply:os.getcwd []\n", "? [a]\n: b\n", "- [" * 3_000, "{" * 3_000,
    "%YAML 9.9\n---\n", "a: b\na: c\n",
    "---\na: b\n---\nc: d\n", "!!binary aGk=\n", "\tmodules:\n", "<<: {a: b}\n", "modules: |\n  text\n",
    "2020-01-01: 1\n", "a: !!set {b}\n",
]  # fmt: skip


@cache
def surroundings():
    """What recipes name: path -> content."""
    folders = bases.folders()
    named = {"parts": "decomposition", "module": "module", "other": "compact-alone", "fused": "fused"}
    files = {f"{name}/{file}": content for name, base in named.items() for file, content in folders[base].items()}
    x, y = factory.examples(data_files.decomposition().network, 12)
    rows = "text,label\n" + "".join(
        f"{text},{label}\n" for text, label in zip(data_files.WORDS, data_files.LABELS, strict=True)
    )
    labels = [data_files.LABELS[label] for label in y]
    return files | {"sample.npz": npz_files.build({"x": x, "y": labels}), "sample.csv": rows.encode()}


def make(rng, place):
    for name, content in surroundings().items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    tree = trees.mutate(rng, yaml.safe_load(yaml.safe_dump(rng.choice(RECIPES))), KNOWN)
    try:
        text = yaml.safe_dump(tree, allow_unicode=True) if rng.random() < 0.8 else trees.write(tree)
    except yaml.YAMLError:  # a node that only JSON can hold
        text = trees.write(tree)
    if rng.random() < 0.1:
        text = rng.choice(SYNTAX) + text if rng.random() < 0.5 else text + rng.choice(SYNTAX)
    if rng.random() < 0.03:
        text = text.replace("parts", values.string(rng, "parts"))
    content = text.encode("utf-8", "surrogatepass")
    path = place / "recipe.yaml"
    path.write_bytes(raw_bytes.mutate(rng, content) if rng.random() < 0.15 else content)
    return path


def use(composition, place):
    """Run, save, and load what was saved."""
    from tests.fuzz import folders

    folders.use(composition, place)
    using.show(composition)


KIND = Kind("recipes", 6, make, build_recipe, use, opens=True)
