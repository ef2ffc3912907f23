"""Saved folders: manifests, tensors and vocabularies, with digests made right again."""

import json
import os

from tests.fuzz import bases, digests, own_module, raw_bytes, tensors, tokenizer_files, trees, using
from tests.fuzz.kinds import Kind
from tests.fuzz.library import check_folder, open_any
from tests.fuzz.watching import FORBIDDEN
from unbraid import load_composition, load_decomposition, load_module

MANIFEST = "unbraid.json"


def make(rng, place):
    """A folder with one to a few changes."""
    files = mutated(rng)
    path = place / "folder"
    path.mkdir()
    (place / FORBIDDEN).write_bytes(next(content for content in files.values() if isinstance(content, bytes)))
    for name, content in files.items():
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            content(path / name)
    return path


def mutated(rng, plain=False):
    """File name -> content, or what makes something else there (never with ``plain``)."""
    name = rng.choice(list(bases.folders()))
    files = dict(bases.folders()[name])
    manifest = json.loads(files[MANIFEST])
    others = [name for name in files if name.endswith(".json") and name != MANIFEST]
    stored = [name for name in files if name.endswith(".safetensors")]
    (way,) = rng.choices(["manifest", "tensors", "vocabulary", "both", "bytes", "files"], [45, 30, 8, 7, 6, 4])
    if way in ("manifest", "both"):
        manifest = trees.mutate(rng, manifest, bases.manifests())
    if way in ("tensors", "both"):
        chosen = rng.choice(stored)
        files[chosen] = tensors.mutate(rng, files[chosen])
    if way == "vocabulary" and others:
        chosen = rng.choice(others)
        files[chosen] = tokenizer_files.mutate(rng, files[chosen])
    if way == "files" and not plain:
        return _elsewhere(rng, files)
    if way == "bytes":
        chosen = rng.choice(list(files))
        changed = raw_bytes.mutate(rng, files[chosen], rng.choice(list(files.values())))
        if chosen == MANIFEST:
            return files | {MANIFEST: changed}
        files[chosen] = changed
    if rng.random() < 0.95:
        digests.correct(manifest, files)
    files[MANIFEST] = trees.write(manifest).encode("utf-8", "surrogatepass")
    return files


def _elsewhere(rng, files):
    """Something that is no regular file in a file's place, or another folder's file."""
    name = rng.choice(list(files))
    others = rng.choice(list(bases.folders().values()))
    made = rng.choice(
        [
            lambda path: path.mkdir(),
            os.mkfifo,
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: path.symlink_to(path.parent.parent / FORBIDDEN),
            lambda path: path.symlink_to(path),
            lambda path: None,
            rng.choice(list(others.values())),
            others.get(name, b""),
        ]
    )
    return files | {name: made}


def load(path):
    """As ``unbraid inspect`` does; folders of a user's own module are read with a fresh instance, too."""
    manifest = path / MANIFEST
    check_folder(path)
    opened = open_any(path)
    if manifest.is_file() and not manifest.is_symlink() and b'"torch"' in manifest.read_bytes():
        return _with_own_module(manifest)
    return opened


def _with_own_module(manifest):
    content = manifest.read_bytes()
    for kind, loader in (("module", load_module), ("composition", load_composition)):
        if f'"kind": "{kind}"'.encode() in content:
            return loader(manifest.parent, module=own_module.fresh())
    return load_decomposition(manifest.parent, module=own_module.fresh())


def use(opened, place):
    """Describe, run, save, load that, run again."""
    using.show(opened)
    before = using.run(opened)
    opened.save(place / "again")
    again = load(place / "again")
    using.show(again)
    using.same(before, using.run(again))


KIND = Kind("folders", 46, make, load, use)
