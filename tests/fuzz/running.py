"""Runs one input in this process."""

import importlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.fuzz import (
    bounds,
    data_files,
    folders,
    hub_listings,
    keras_files,
    kinds,
    recipes,
    state_dicts,
    tokenizer_files,
)
from tests.fuzz.outcomes import MEMORY, OUTSIDE, USED, Outcome, of_exception

KINDS = [
    folders.KIND, tokenizer_files.KIND, keras_files.ARCHIVES, keras_files.LEGACY, data_files.EXAMPLES,
    data_files.LABEL_FILES,
    data_files.PAIRS, recipes.KIND, state_dicts.KIND, hub_listings.KIND,
]  # fmt: skip


def warm_up():
    """Make the valid inputs, and use one of each kind, so that workers need not import or make anything."""
    importlib.import_module("torch._dynamo")  # torch imports it when layers first run on the meta device
    importlib.import_module("torch.nested._internal.ops")  # imported when a state dict holds a nested tensor
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, files) in enumerate(folders.bases.folders().items()):
            place = Path(temporary) / str(number)
            (place / "folder").mkdir(parents=True)
            for file, content in files.items():
                (place / "folder" / file).write_bytes(content)
            try:
                folders.use(folders.load(place / "folder"), place)
            except Exception as error:
                raise RuntimeError(f"valid folder {name!r} fails") from error
        for kind in KINDS:
            for number in range(4):
                place = Path(temporary) / f"{kind.name} {number}"
                place.mkdir()
                with suppress(Exception):  # found again by inputs that are counted
                    kind.use(kind.load(kind.make(kinds.source("warm", number), place)), place)


def written(seed, index, place):
    """Write input ``index`` into an empty folder; returns its kind and path."""
    rng = kinds.source(seed, index)
    kind = kinds.draw(KINDS, rng)
    return kind, kind.make(rng, place)


def run(seed, index, place, watch):
    """The outcome of one input.

    Args:
        seed: of the run.
        index: of the input.
        place: an empty folder.
        watch: an installed :class:`tests.fuzz.watching.Watch`.
    """
    kind, path = written(seed, index, place)
    outcome, loaded = Outcome(index, kind.name, USED), False
    tempfile.tempdir = str(place)
    before = bounds.start()
    watch.start(place, kind.opens)
    try:
        opened = kind.load(path)
        loaded = True
        kind.use(opened, place)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        outcome = of_exception(error, index, kind, loaded, place)
    finally:
        outside = watch.stop()
        bounds.stop()
    opened = None
    if outside:
        return Outcome(index, kind.name, OUTSIDE, *outside[0])
    if before and bounds.peak() - before > bounds.PEAK:
        return Outcome(index, kind.name, MEMORY, "peak", outcome.where, outcome.message)
    return outcome


def clear(place):
    """Remove what an input left, also where it changed permissions."""
    shutil.rmtree(place, ignore_errors=True)
