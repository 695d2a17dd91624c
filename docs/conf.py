"""The site: sphinx-build -W docs build/site (with the extra ``docs`` installed).

The pages are read on the site and in the repository; a link to a file outside of this
folder leads nowhere on the site, and is text there.
"""

from __future__ import annotations

from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

import safemmap

project = "safemmap"
author = "the safemmap developers"
copyright = f"2026, {author}"
version = release = safemmap.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"safemmap {version}"
pygments_style = "default"

FOLDER = Path(__file__).parent
#: What the links of pages are relative to.
SOURCES = FOLDER, FOLDER.parent, FOLDER.parent / "csrc"


class LinksIntoTheRepository(SphinxPostTransform):
    default_priority = 8  # before MyST looks for their targets

    def run(self, **_: object) -> None:
        for node in [*self.document.findall(addnodes.pending_xref)]:
            target = node["reftarget"].partition("#")[0]
            if target and any((source / target).exists() for source in SOURCES):
                node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    app.add_post_transform(LinksIntoTheRepository)
