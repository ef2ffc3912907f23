"""Change a saved folder and correct its digests and its checksum, as an attacker could."""

import hashlib
import json

from unbraid.storage.manifest import CHECKSUM, checksum

NAME = "unbraid.json"


def sealed(manifest):
    """Return the text of a manifest, with a valid checksum if its format has one."""
    if manifest.get("format") == 1:
        manifest.pop(CHECKSUM, None)
        return json.dumps(manifest)
    try:
        manifest = {**manifest, CHECKSUM: checksum(manifest)}
    except ValueError:  # text or numbers that no checksum is possible of
        manifest = {**manifest, CHECKSUM: "0" * 64}
    return json.dumps(manifest)


def edit(folder, change=lambda manifest: None):
    """Change the manifest of a folder; other files may have been changed before."""
    manifest = json.loads((folder / NAME).read_text())
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    manifest["files"] = digests
    change(manifest)
    (folder / NAME).write_text(sealed(manifest))
