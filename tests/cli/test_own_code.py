"""`--module`: code comes from the user's own place, never from an opened folder, and its faults are one line."""

import json

import numpy as np
import pytest

import unbraid
from tests import own_intents
from tests.cli.shell import run
from tests.own_intents import Intents
from unbraid.cli.own_code import own_modules, read_init
from unbraid.errors import ConfigError, UnbraidError

EVIL = "open('ran', 'w').write('code of the folder ran')\nfrom tests.own_intents import Intents, make\n"


@pytest.fixture(scope="module")
def faq(tmp_path_factory):
    place = tmp_path_factory.mktemp("faq") / "faq"
    own_intents.composed()[0].save(place)
    return place


@pytest.fixture
def place(faq, tmp_path):
    """A copy of the folder with code in it, the user's own code beside it, and inputs."""
    (tmp_path / "faq").mkdir()
    for file in faq.iterdir():
        (tmp_path / "faq" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "faq" / "evil.py").write_text(EVIL)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    code = "from helper import Intents, make\nready = Intents(9, 6)\nnumber = 3\nclass Inner:\n    Model = Intents\n"
    (tmp_path / "pack" / "models.py").write_text(code.replace("helper", "pack.helper"))
    (tmp_path / "alone.py").write_text(code)
    for helper in (tmp_path / "helper.py", tmp_path / "pack" / "helper.py"):
        helper.write_text("from tests.own_intents import Intents, make\n")
    (tmp_path / "broken.py").write_text("import not_there_at_all\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        ["alone.py:Intents"],
        ["pack.models:make"],
        ["pack/models.py:Inner.Model"],
        ["0=alone:make", "travel=pack.models:Intents"],
        ["Intents=alone.py:Intents"],
        ["0=alone.py:ready", "1=alone.py:make"],
    ],
)
def test_code_of_the_user_is_found(place, options):
    (place / "faq" / "evil.py").unlink()
    given = [part for option in options for part in ("--module", option)]
    done = run("predict", "faq", "-", *given, cwd=place, input="my card please now\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() in ("balance", "transfer", "rent")


def test_code_in_an_opened_folder_never_runs(place):
    inside = place / "faq"
    (place / "link.py").symlink_to(inside / "evil.py")
    (place / "linked").symlink_to(inside)
    for cwd, options in (
        (place, ["faq/evil.py:Intents"]),
        (place, ["faq.evil:Intents"]),
        (place, [f"{inside}/evil.py:Intents"]),
        (place, ["link.py:Intents"]),
        (place, ["link:Intents"]),
        (place, ["linked/evil.py:Intents"]),
        (place, ["linked.evil:Intents"]),
        (place, ["bank=alone.py:Intents", "travel=faq/evil.py:make"]),
        (inside, ["evil:Intents"]),
        (inside, ["evil.py:Intents"]),
    ):
        folder = "faq" if cwd == place else "."
        given = [part for option in options for part in ("--module", option)]
        for command in (
            ["predict", folder, "-", *given],
            ["evaluate", folder, "x.csv", *given],
            ["compose", folder, "-o", place / "out", *given],
            ["export", folder, "-o", place / "out.onnx", *given],
        ):
            done = run(*command, cwd=cwd, input="a\n")
            assert done.exit_code == 2 and "no code of an opened folder is run" in done.stderr, (command, done.output)
    assert not (place / "ran").exists() and not (inside / "ran").exists() and not (place / "out").exists()


def test_a_recipe_opens_its_folders_too(place):
    (place / "faq.yaml").write_text("modules:\n  - from: faq\n")
    done = run("compose", "faq.yaml", "-o", "out", "--module", "faq/evil.py:Intents", cwd=place)
    assert done.exit_code == 2 and "no code of an opened folder is run" in done.stderr
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["alone.py"], "expected package.file:Factory"),
        (["alone.py:"], "expected package.file:Factory"),
        ([":Intents"], "expected package.file:Factory"),
        (["nowhere.py:Intents"], "no such file"),
        (["nowhere:Intents"], "no Python module 'nowhere'"),
        (["pack.nowhere:Intents"], "no Python module 'pack.nowhere'"),
        (["..:x"], "no Python module"),
        (["alone.py:Missing"], "has no 'Missing'"),
        (["alone.py:number"], "is a int, expected a class or a function"),
        (["broken.py:x"], "cannot be imported: ModuleNotFoundError"),
        (["leaves:x"], "cannot be imported: SystemExit"),
        (["alone.py:make", "alone.py:make"], "given twice for all networks"),
        (["a=alone.py:make", "a=alone.py:make"], "given twice for 'a'"),
        (["alone.py:make", "a=alone.py:make"], "with and without NAME="),
        (["bank=alone.py:Intents"], "has no instance for parent 1; its keys are ['bank']"),
        (["alone.py:ready"], "recurrent layers"),
        (["torch.nn:Linear"], "--module Linear raised TypeError"),
        (["json:loads"], "raised TypeError"),
        (["builtins:str"], "raised TypeError"),
    ],
)
def test_wrong_code_is_one_line(place, options, says):
    given = [part for option in options for part in ("--module", option)]
    done = run("predict", "faq", "-", *given, cwd=place, input="a\n")
    assert done.exit_code == 2, done.exception
    assert says in done.stderr.replace("path/to/file.py:Factory raised", "Linear raised"), done.stderr
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 1500 and "module=" not in done.stderr


def test_vocabularies_are_given_for_all_networks_or_by_name(faq, tmp_path):
    composition, x = own_intents.composed()
    plain = {name: tmp_path / f"{name}.json" for name in own_intents.WORDS}
    for name, words in own_intents.WORDS.items():
        plain[name].write_text(json.dumps({word: n for n, word in enumerate(words, 2)}))
    network = own_intents.network("bank").with_vocabulary(None)
    rows = own_intents.vocabulary("bank").encode(own_intents.texts("bank")[0])[0]
    parts = unbraid.decompose(network, (rows, own_intents.texts("bank")[1]))
    parts.save(tmp_path / "parts")
    np.savez(tmp_path / "rows.npz", x=rows)
    code = ["--module", "tests.own_intents:Intents"]
    texts = "\n".join(own_intents.texts("bank")[0]) + "\n"
    done = run("predict", tmp_path / "parts", "-", *code, input=texts)
    assert done.exit_code == 2 and "--vocabulary FILE" in done.stderr and "vocabulary=" not in done.stderr
    expected = run("predict", tmp_path / "parts", tmp_path / "rows.npz", *code).stdout
    for option in (f"{plain['bank']}", f"0={plain['bank']}", f"bank={plain['bank']}", f"Intents={plain['bank']}"):
        assert run("predict", tmp_path / "parts", "-", *code, "--vocabulary", option, input=texts).stdout == expected
    # a key replaces a stored vocabulary; without one it is ambiguous which network is meant
    done = run("predict", faq, "-", *code, "--vocabulary", plain["bank"], input=texts)
    assert done.exit_code == 2 and "--vocabulary NUMBER=" in done.stderr
    both = ["--vocabulary", f"bank={plain['bank']}", "--vocabulary", f"1={plain['travel']}"]
    done = run("predict", faq, "-", *code, *both, input="\n".join(x))
    assert done.stdout.splitlines() == composition.predict(x).tolist()
    done = run("predict", faq, "-", *code, "--vocabulary", f"banc={plain['bank']}", input=texts)
    assert (
        done.exit_code == 2 and "has no network 'banc'; it has ['0', '1', 'Intents', 'bank', 'travel']" in done.stderr
    )
    sample = tmp_path / "few.csv"
    labels = own_intents.texts("bank")[1]
    sample.write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in zip(texts.split("\n"), labels, strict=False)))
    command = ["compose", tmp_path / "parts", "--sample", sample, *code, "-o", tmp_path / "out"]
    assert "--vocabulary" in run(*command).stderr
    assert run(*command, "--vocabulary", plain["bank"]).exit_code == 0
    found = unbraid.load_composition(tmp_path / "out", module=Intents)
    assert found["freeze"].parent.vocabulary is not None


def test_options_are_parsed():
    assert own_modules([], []) is None
    assert own_modules(["tests.own_intents:Intents"], []) is Intents
    found = own_modules(["0=tests.own_intents:make", "bank=tests.own_intents:Intents"], [])
    assert found == {0: own_intents.make, "bank": Intents}
    assert read_init(None) is None and read_init('{"a": [1, null]}') == {"a": [1, None]}
    for text in ("{", "[1]", "3", '{"a": NaN}', "\ud800"):
        with pytest.raises(UnbraidError, match="--init"):
            read_init(text)
    with pytest.raises(ConfigError, match="expected package"):
        own_modules(["x"], [])
