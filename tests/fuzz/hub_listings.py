"""Answers of a model hub: listings, entries and files, given by a server on this machine."""

import hashlib
import json
from unittest import mock

from tests import hub_server
from tests.fuzz import bases, folders, raw_bytes, trees, using, values
from tests.fuzz.kinds import Kind
from tests.fuzz.library import hub, open_any

REPO = "owner/parts"
NAMES = ["unbraid.json", "../outside", "/tmp/outside", "a/unbraid.json", "..", "", "unbraid.json/",
         "vocabulary-0.json", ".cache/x",
         "parent.safetensors", "README.md", "recipe.yaml", "a\\..\\b", "UNBRAID.JSON",
         "vocabulary-" + "9" * 300 + ".json"]  # fmt: skip
KNOWN = {
    "rfilename": NAMES, "path": NAMES, "size": [0, -1, 2**31, 2**40, 2**63, None, "1"], "sha": ["0" * 40, "main", "",
                                                                                                "../x"],
    "private": [True, None], "type": ["file", "directory", "link"], "oid": ["0" * 40, "", None],
}  # fmt: skip


def make(rng, place):
    """Files of a repository, and how its listing is changed."""
    files = folders.mutated(rng, plain=True) if rng.random() < 0.3 else dict(bases.folders()["decomposition"])
    plan = {"seed": rng.randrange(2**32), "listing": rng.random() < 0.9, "many": rng.choice([0, 0, 0, 0, 300, 3_000])}
    plan |= {"status": rng.choice([200] * 12 + [400, 401, 403, 404, 418]), "extra": rng.choice([[], [], NAMES[1:9]])}
    (place / "repository").mkdir()
    for name, content in files.items():
        (place / "repository" / name).write_bytes(content)
    (place / "plan.json").write_text(json.dumps(plan))
    return place / "plan.json"


def load(path):
    """``unbraid pull``, then load."""
    plan = json.loads(path.read_text())
    files = bases.read(path.parent / "repository")
    with hub_server.hub_server() as server, mock.patch.object(hub_server._Handler, "_json", _changed(plan)):
        server.put(REPO, files | {name: b"extra" for name in plan["extra"]})
        if plan["status"] != 200:
            server.failing = (
                plan["status"],
                values.STRINGS[plan["seed"] % len(values.STRINGS)].replace("\r", "").replace("\n", "") or "no",
            )
        target = hub.pull(REPO, path.parent / "pulled", endpoint=server.url)
    return open_any(target)


def _changed(plan):
    """How the server answers: its JSON, changed by the plan."""
    from tests.fuzz.kinds import source

    def answer(handler, value):
        rng = source(plan["seed"], handler.path)
        if isinstance(value, dict) and isinstance(value.get("siblings"), list):
            value["siblings"] += [{"rfilename": f"vocabulary-{n}.json"} for n in range(plan["many"])]
        elif isinstance(value, list):
            value += [
                {"type": "file", "path": f"vocabulary-{n}.json", "size": 1, "oid": "0" * 40}
                for n in range(plan["many"])
            ]
        text = trees.write(trees.mutate(rng, value, KNOWN)) if plan["listing"] else json.dumps(value)
        content = text.encode("utf-8", "surrogatepass")
        content = raw_bytes.mutate(rng, content) if rng.random() < 0.05 else content
        handler._answer(
            200, content, {"Content-Type": "application/json", "X-Digest": hashlib.sha256(content).hexdigest()}
        )

    return answer


def use(opened, place):
    using.show(opened)
    using.run(opened)


KIND = Kind("hub listings", 1, make, load, use)
