"""What `import unbraid` loads: no optional package, and nothing slow that is needed later only."""

import json
import subprocess
import sys

OPTIONAL = {"babel", "huggingface_hub", "jinja2", "keras", "matplotlib", "onnx", "onnxruntime", "sacrebleu", "sklearn"}
LATER = {"rich", "typer", "yaml"}  # they took a tenth of the time of the import


def test_import_loads_neither_optional_packages_nor_those_that_are_needed_later():
    code = "import json, sys, unbraid; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"unbraid", "torch"} <= loaded and not loaded & (OPTIONAL | LATER)


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
