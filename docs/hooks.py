"""Hook of MkDocs: pages from outside of docs/."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
COPIED = {"results.md": "benchmarks/RESULTS.md", "results/pareto.png": "benchmarks/results/pareto.png"}


def on_files(files, config):
    """Add the benchmark results as a page."""
    for page, source in COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files
