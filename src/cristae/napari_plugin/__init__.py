"""cristae in napari: projects open with a drop, and are labelled, trained, predicted and corrected there.

Needs the extra ``napari``. Only the modules of widgets import Qt.
"""
