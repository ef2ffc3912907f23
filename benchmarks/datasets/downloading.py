"""Download data sets from their publishers, with fixed addresses, checksums and a notice of the license.

An address names a commit if its host has commits. Data sets that were made by hand from published parts have no
address, because no publisher has these files.
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

NLTK = "https://raw.githubusercontent.com/nltk/nltk_data/550b6625bcef1f2abff2ff770a5a0d272c9c6b2a/packages"
CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de"


@dataclass(frozen=True)
class Source:
    """The source of a data set.

    Attributes:
        publisher: the publisher.
        licence: the license.
        form: the files that the readers expect.
        files: address -> sha256; empty if no publisher has such files.
        convert: converts the files of the publisher to the expected files, in place.
    """

    publisher: str
    licence: str
    form: str
    files: dict[str, str] = field(default_factory=dict)
    convert: Callable[[Path], None] = lambda folder: None


def _mathqa(folder: Path) -> None:
    """Convert the lists of the archive to lines.

    The training part is sorted by category, like the file that RESULTS.md was measured on. A shuffle with the same seed
    then gives the same batches.
    """
    archive_path = folder / "MathQA.zip"
    with zipfile.ZipFile(archive_path) as archive:
        for part in ("train", "dev", "test"):
            rows = [{k: row[k] for k in ("Problem", "category")} for row in json.loads(archive.read(f"{part}.json"))]
            if part == "train":
                rows.sort(key=itemgetter("category"))
            with gzip.open(folder / f"{part}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    archive_path.unlink()


def _tatoeba(languages: str) -> Source:
    return Source(
        "tatoeba.org (tatoeba.org/en/downloads, whose exports change with time)",
        "CC BY 2.0 FR",
        f"{languages} as LANGUAGE.txt.gz, a sentence a line, the same line of each file being its translation",
    )


SOURCES = {
    "brown": Source(
        "NLTK (github.com/nltk/nltk_data)",
        "Brown corpus: for non-commercial purposes; universal tag set: CC BY-SA 4.0",
        "brown.zip and universal_tagset.zip",
        {
            f"{NLTK}/corpora/brown.zip": "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6",
            f"{NLTK}/taggers/universal_tagset.zip": "d490e1ae8f5625dcdfdda04be15c22a2aade8c2561a36a61edcdf0c7d6aa8352",
        },
    ),
    "clinc": Source(
        "Clinc, Inc. (github.com/clinc/oos-eval)",
        "CC BY 3.0",
        "data_full.json and domains.json",
        {
            f"{CLINC}/data/data_full.json": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
            f"{CLINC}/data/domains.json": "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
            f"{CLINC}/LICENSE": "e6bc9e9c474700b708f568bac9e5a8a9bcb2b1dad53442f5ba449fcb848b8e76",
        },
    ),
    "mathqa": Source(
        "the authors of MathQA (math-qa.github.io)",
        "Apache-2.0 by its data card; the archive itself names none",
        "train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz with Problem and category",
        {
            "https://math-qa.github.io/math-QA/data/MathQA.zip": (
                "7344f30456a7aef3176d4866cc953b35b41bec44eda6b00cdbcfde2876b2f07a"
            )
        },
        _mathqa,
    ),
    "toxic": Source(
        "Jigsaw (kaggle.com/c/jigsaw-toxic-comment-classification-challenge, which asks for an account)",
        "labels: CC0; text: CC BY-SA 3.0",
        "wiki_toxic_union_slim.csv.gz with id, comment_clean and six labels of 0 or 1, a sample of cleaned comments",
    ),
    "tatoeba": _tatoeba("de, en, fr and it"),
    "tatoeba_uk": _tatoeba("de, en, fr, it and uk"),
    "tatoeba_et": _tatoeba("de, en, et and it (and more of en and et as LANGUAGE_large.txt.gz)"),
}


def fetch(name: str, folder: Path) -> Path:
    """Download a data set into a new folder. The folder has the complete data set or does not exist.

    Raises:
        SystemExit: the data set cannot be downloaded, or its checksum differs.
    """
    try:
        import pooch
    except ImportError:
        raise SystemExit("downloading needs pooch: pip install 'unbraid[bench]'.") from None
    source = SOURCES[name]
    print(f"Downloading {name} from {source.publisher}. Licence: {source.licence}.", file=sys.stderr)
    otherwise = f"Nothing was kept. Try again, or set UNBRAID_DATA to a folder with {name}/: {source.form}."
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / name
        for url, sha256 in source.files.items():
            try:
                pooch.retrieve(url, f"sha256:{sha256}", url.rpartition("/")[2], made)
            except ValueError:  # pooch raises it for another checksum
                raise SystemExit(f"{url} is not the file it was: its sha256 differs. {otherwise}") from None
            except OSError as error:  # base class of the errors of requests
                raise SystemExit(f"{url} cannot be downloaded: {error}. {otherwise}") from None
        source.convert(made)
        made.rename(folder)
    return folder
