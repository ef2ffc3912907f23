"""The report in headless Chromium: it renders, tables are sorted by a click, and no other script runs."""

import base64
import hashlib
import re
import shutil
import subprocess

import pytest

import unbraid
from tests.report.pages import Page
from unbraid.demo.small import small_examples, small_network

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install '.[report]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[report]'")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")
HOSTILE = "<script>document.title = 'changed'</script>"
CLICK = """
const headers = Array.from(document.querySelectorAll("table.sortable th"));
for (const name of CLICKED) headers.find((header) => header.textContent === name).firstChild.click();
"""


def browse(page, folder, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def with_script(text, script):
    """Add a script to a page, and permit it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ")
    return text.replace("</body>", f"<script>{script}</script></body>")


@pytest.fixture
def report(tmp_path):
    network = small_network(["b", "c", HOSTILE, "a"])
    examples = small_examples(network, 80)
    composition = unbraid.compose(unbraid.decompose(network, examples, keep=0.4))
    result = unbraid.evaluate(composition, examples, against=network)
    result.report(tmp_path / "report.html")
    return result, tmp_path / "report.html"


def sorted_by(report, *clicked):
    _, path = report
    script = CLICK.replace("CLICKED", repr(list(clicked)))
    path.write_text(with_script(path.read_text(encoding="utf-8"), script), encoding="utf-8")
    found = browse(path, path.parent, "--dump-dom").stdout
    return found, [row["module"] for row in Page(found).table("module")]


def test_a_click_sorts_by_name(report):
    text, labels = sorted_by(report, "module")
    assert set(labels) == {"a", "b", "c", HOSTILE}
    assert [label for label in labels if label != HOSTILE] == ["a", "b", "c"]
    assert "<title>Unbraid: Evaluation of modules</title>" in text  # the script in a label did not run


def test_a_second_click_sorts_numbers_downwards(report):
    result, _ = report
    text, labels = sorted_by(report, "cohesion", "cohesion")
    wanted = [f"{result.modules[label].cohesion:.3f}" for label in labels]
    assert wanted == sorted(wanted, reverse=True) and len(set(wanted)) > 1
    assert 'aria-sort="descending"' in text


def test_the_page_renders_without_an_error(report):
    _, path = report
    picture = path.with_suffix(".png")
    options = ["--enable-logging=stderr", "--window-size=1200,3000", f"--screenshot={picture}"]
    done = browse(path, path.parent, *options)
    assert not re.findall(r"CONSOLE.*|Refused to.*", done.stderr)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 50_000  # a blank page has 10,000
