"""The order of the gallery: the quickstart, what has a picture, and then the others."""


class QuickstartFirst:
    """A sort key as Sphinx-Gallery wants it: made with a folder, called with file names."""

    def __init__(self, folder):
        pass

    def __call__(self, filename):
        return filename != "quickstart.py", not filename.startswith("plot_"), filename
