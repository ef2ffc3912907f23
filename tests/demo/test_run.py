"""All steps of the demonstration run without a warning. The tests do not depend on the quality of the training."""

import io

from rich.console import Console
from typer.testing import CliRunner

import unbraid
from unbraid.cli.app import app
from unbraid.demo import run
from unbraid.demo.names import load_names


def test_the_demonstration_tells_its_story(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_names", lambda seed: load_names(seed=seed, per_class=120))
    monkeypatch.setattr(run, "EPOCHS_BETTER", 1)
    told = Console(file=io.StringIO(), width=120)
    run.run_demo(tmp_path / "demo", 0, told)
    text = told.file.getvalue()
    assert all(step in text for step in ("1. Train", "2. Decompose", "3. Reuse", "4. Replace", "unbraid evaluate"))
    assert "the network restricted to these classes has" in text
    fixed = unbraid.load_composition(tmp_path / "demo" / "fixed")
    assert fixed.is_calibrated and len({m.parent_sha256 for m in fixed.modules_by_label.values()}) == 2
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "demo" / "fixed"), str(tmp_path / "demo" / "test.npz")])
    assert done.exit_code == 0 and not done.stderr, done.output
