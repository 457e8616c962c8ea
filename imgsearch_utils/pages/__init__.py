"""In: a run, and a person in front of a screen. Out: grades and votes in the run's journal.

Each page is a widget for JupyterLab, with one .js and one .css, and can be served by itself.
"""

from imgsearch_utils.pages.search_page import SearchPage, static_page
from imgsearch_utils.pages.tagger import Tagger, contact_sheet

__all__ = ["SearchPage", "Tagger", "contact_sheet", "static_page"]
