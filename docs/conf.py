"""How Sphinx builds the site: ``make docs``. Every notebook is executed; a warning fails the build."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONWARNINGS"] = "ignore"  # of the notebooks' kernels
HERE = Path(__file__).parent
# the notebooks find `pictures` here and `examples` in the project's folder
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])

import pdegcnn

spec = importlib.util.spec_from_file_location("site_api", HERE / "site_api.py")
site_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site_api)

project = "pdegcnn"
author = copyright = "the pdegcnn developers"
version = release = pdegcnn.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates"]

# Notebooks: text files that are run from top to bottom, in the folder of the page. Outputs are never stored.
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # notes on what is being compiled
nb_execution_show_tb = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# The API pages: docstrings in Google's style.
default_role = "py:obj"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shape", "returns_style"), ("Attributes", "params_style")]

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

copybutton_exclude = ".linenos, .gp, .go"
html_theme = "furo"
html_title = "pdegcnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = True

# Formulas are set by a MathJax that lies inside a Python package: pages need no network.
mathjax_path = "tex-svg.js"
mathjax3_config = {"tex": {"macros": {"d": r"\mathrm{d}", "R": r"\mathbb{R}", "norm": [r"\left\|#1\right\|", 1]}}}


def copy_mathjax(app, error) -> None:
    """Put MathJax beside the pages."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if error is None and app.builder.format == "html":
        source = Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js"
        shutil.copy(source, Path(app.outdir) / "_static" / "tex-svg.js")


def setup(app) -> None:
    """Hooks of the build."""
    site_api.write_pages(HERE / "api")
    app.add_role("test", site_api.test_role)
    app.connect("build-finished", copy_mathjax)
    app.connect("autodoc-process-docstring", site_api.escape, priority=100)
    app.connect("autodoc-skip-member", site_api.skip)
    app.connect("missing-reference", site_api.resolve)
    app.connect("build-finished", site_api.check_inventory)
    app.connect("build-finished", site_api.check_pictures)
