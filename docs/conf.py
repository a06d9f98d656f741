"""Settings of the documentation: sphinx-build -W --keep-going -b html docs docs/_build/html."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the facts are computed from shapes, on any machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import flax_agnews

project = "flax_agnews"
author = "the authors of flax_agnews"
release = version = flax_agnews.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "from_code"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_extensions", "strategies/_*"]
suppress_warnings = ["myst.header"]  # a page of measurements, included whole, begins where its file does
nitpicky = False
linkcheck_ignore = [".*"]  # no server is asked for anything

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

default_role = "code"  # docstrings have names in single backticks
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__,__new__"}
autoclass_content = "class"
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "flax_agnews"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],
}
