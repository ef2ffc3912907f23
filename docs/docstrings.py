"""Extension of griffe: Sphinx roles and the section ``Example:`` of the docstrings, which griffe does not have."""

import re

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`~?(?=[^`]+`)")


class Docstrings(griffe.Extension):
    """Rewrite docstrings before they are parsed."""

    def on_object(self, *, obj, **kwargs):
        """Show roles as code, and examples as Python code."""
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub("`", text)
