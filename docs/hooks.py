"""Hook of MkDocs: pages from outside of docs/."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "benchmarks" / "results").glob("*.png"))
COPIED = {"results.md": ROOT / "benchmarks" / "RESULTS.md", **{f"results/{path.name}": path for path in PICTURES}}


def on_files(files, config):
    """Add the benchmark results as a page."""
    for page, source in COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(source)))
    return files
