"""Digests made right again, so that what stands behind their check is tested."""

import hashlib
import json
from contextlib import suppress

from tests.fuzz import tensors, trees
from tests.fuzz.library import ParentEntry


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def correct_files(manifest, files):
    """Digests of the files that the manifest names."""
    named = manifest.get("files")
    if isinstance(named, dict):
        for name in named:
            if isinstance(files.get(name), bytes):
                named[name] = sha256(files[name])


def correct_parents(manifest, content):
    """Digests of parents that are stored whole; those that are no parents stay as they are."""
    stored = tensors.parse(content)
    for number, entry in enumerate(manifest["parents"]):
        if entry["sliced_by"] is None:
            spec = ParentEntry.model_validate(entry).spec.model_dump_json()
            digest = hashlib.sha256(spec.encode())
            prefix = f"{number}/"
            for name in sorted(name.removeprefix(prefix) for name in stored if name.startswith(prefix)):
                digest.update(name.encode() + stored[prefix + name][2])
            entry["sha256"] = digest.hexdigest()


def correct_checksum(manifest):
    """The checksum of a manifest that has one: sha256 of the canonical JSON of the other fields."""
    if "checksum" in manifest:
        rest = json.loads(trees.write({name: value for name, value in manifest.items() if name != "checksum"}))
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        manifest["checksum"] = sha256(text.encode())


def correct(manifest, files):
    """Make all digests of a manifest right, as far as it still has the form of one.

    Args:
        manifest: its JSON; it may hold :class:`tests.fuzz.trees.Raw`.
        files: file name -> content; what is no file has None.
    """
    if isinstance(manifest, dict):
        with suppress(Exception):  # what the mutation broke has no digest
            correct_parents(manifest, files["parent.safetensors"])
        correct_files(manifest, files)
        with suppress(ValueError, RecursionError):  # text or numbers that no checksum is made of
            correct_checksum(manifest)
