"""What `import unbraid` loads: no optional package, and nothing slow that is needed later only."""

import json
import os
import subprocess
import sys

import pytest

import unbraid

OPTIONAL = {"babel", "huggingface_hub", "jinja2", "keras", "matplotlib", "onnx", "onnxruntime", "sacrebleu", "sklearn"}
LATER = {"rich", "typer", "yaml"}  # they took a tenth of the time of the import


def loaded(code, **environment):
    """Run code in another process, with all its output; return the top-level names of the modules that it loads."""
    ends = "import atexit, json, sys\natexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ends + code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    *text, names = done.stdout.splitlines()
    return {name.partition(".")[0] for name in json.loads(names)}, "\n".join(text) + done.stderr


def test_import_loads_neither_optional_packages_nor_those_that_are_needed_later():
    found, text = loaded("import unbraid")
    assert "unbraid" in found and not found & (OPTIONAL | LATER | {"torch", "numpy"}), text
    found, text = loaded("import unbraid; unbraid.load")
    assert {"unbraid", "torch"} <= found and not found & (OPTIONAL | LATER), text


@pytest.mark.parametrize(
    "code",
    [
        "import unbraid; unbraid.decompose; unbraid.decomposition.decompose.decompose; unbraid.limits.current()",
        "from unbraid import limits, errors; from unbraid import decompose, Network; Network.from_torch",
        "from unbraid import *; decompose, Vocabulary",
        "import unbraid.data.padding, unbraid.limits; unbraid.load",
        "import unbraid as u; assert set(u.__all__) <= set(dir(u)); [getattr(u, name) for name in u.__all__]",
    ],
)
def test_names_are_imported_when_they_are_used(code):
    found, text = loaded(code)
    assert "torch" in found and not text, text


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'unbraid' has no attribute 'decompos'"):
        unbraid.decompos  # noqa: B018
    with pytest.raises(ImportError):
        from unbraid import decompos  # noqa: F401
    assert not hasattr(unbraid, "__wrapped__")


COMPLETE = {"_UNBRAID_COMPLETE": "complete_bash", "COMP_CWORD": "2"}


@pytest.mark.parametrize(
    ("arguments", "environment", "shown"),
    [
        (["--help"], {}, "decompose"),
        (["--version"], {}, unbraid.__version__),
        (["decompose", "--help"], {}, "--keep"),
        ([], {"_UNBRAID_COMPLETE": "complete_bash", "COMP_WORDS": "unbraid dec", "COMP_CWORD": "1"}, "decompose"),
        ([], {**COMPLETE, "COMP_WORDS": "unbraid evaluate --lab"}, "--labels"),
        ([], {**COMPLETE, "COMP_WORDS": "unbraid shrink --max"}, "--max-loss"),
        ([], {"_UNBRAID_COMPLETE": "source_bash"}, "_UNBRAID_COMPLETE"),
    ],
)
def test_help_and_completion_do_not_load_torch(arguments, environment, shown):
    code = f"from unbraid.cli.app import app; app({arguments!r}, prog_name='unbraid')"
    found, text = loaded(code, **environment)
    assert shown in text and "torch" not in found, text


def test_a_module_without_its_package_names_the_command_that_installs_it():
    code = """
import sys
sys.modules["sklearn"] = None
import unbraid
try:
    import unbraid.sklearn
except ImportError as error:
    print(isinstance(error, unbraid.UnbraidError), error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("True unbraid.sklearn needs scikit-learn") and "pip install" in done.stdout, (
        done.stderr
    )
