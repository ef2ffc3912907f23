"""Read a report as a tree of its parts, with html.parser."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input"}


class Page(HTMLParser):
    """The tags, attributes, tables and facts of a report."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts, self.rows, self.facts = [], [], [], {}, [], {}
        self.term = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} is closed inside another element"

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "dt":
            self.term = data
        if "dd" in self.open:
            self.facts[self.term] = self.facts.get(self.term, "") + data.strip()

    def table(self, first):
        """Return the rows of the table whose header starts with a word, as dicts by name of the column."""
        start = next(place for place, row in enumerate(self.rows) if row and row[0] == first)
        head, found = self.rows[start], []
        for row in self.rows[start + 1 :]:
            if len(row) != len(head) or row[0] in ("true", "network", "module", "folder"):
                break
            found.append(dict(zip(head, row, strict=True)))
        return found

    def references(self):
        """Return every address that a browser would load or open."""
        named = [
            value for _, name, value in self.attributes if name in ("src", "href", "xlink:href", "action", "srcset")
        ]
        styles = [value for _, name, value in self.attributes if name in ("style", "clip-path", "fill")]
        return named + re.findall(r"url\(([^)]*)\)", " ".join([*styles, *self.texts.get("style", [])]))
