"""Zip archives with unusual members, always with the same dates."""

import zipfile
from io import BytesIO

from tests.fuzz import values


def members(content):
    """Name -> content of a valid archive."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def build(pairs, compression=zipfile.ZIP_STORED):
    """An archive of (name, content); names may repeat."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in pairs:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.filelist.append(info) if content is None else _written(archive, info, content)
    return file.getvalue()


def _written(archive, info, content):
    known = archive.NameToInfo.pop(info.filename, None)  # else zipfile warns of names that repeat
    archive.writestr(info, content)
    if known is not None:
        archive.NameToInfo[info.filename] = known


def mutate(rng, found):
    """An archive of these members whose directory is unusual."""
    pairs = list(found.items())
    compression = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    for _ in range(rng.choice([0, 1, 1, 2])):
        place = rng.randrange(len(pairs)) if pairs else 0
        change = rng.choice(["delete", "rename", "repeat", "bomb", "many", "swap", "empty"])
        if change == "delete" and pairs:
            del pairs[place]
        elif change == "rename" and pairs:
            pairs[place] = (_name(rng, pairs[place][0]), pairs[place][1])
        elif change == "repeat" and pairs:
            pairs.append(pairs[place])
        elif change == "bomb" and pairs:
            compression = zipfile.ZIP_DEFLATED
            pairs[place] = (pairs[place][0], rng.choice([b"\0", b" ", b"[", b"[0,"]) * rng.choice([10**5, 3 * 10**6]))
        elif change == "many":
            pairs += [(f"m{n}", b"") for n in range(rng.choice([10, 500]))]
        elif change == "swap" and pairs:
            other = rng.randrange(len(pairs))
            pairs[place] = (pairs[place][0], pairs[other][1])
        elif pairs:
            pairs[place] = (pairs[place][0], b"")
    return build(pairs, compression)


def _name(rng, old):
    new = values.string(rng, old)[:1_000].replace("\0", "").encode("utf-8", "ignore").decode()
    return new or "x"
