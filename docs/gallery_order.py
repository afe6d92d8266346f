"""The order of the gallery: what has a picture first."""


class PicturesFirst:
    """A sort key as Sphinx-Gallery wants it: made with a folder, called with file names."""

    def __init__(self, folder):
        pass

    def __call__(self, filename):
        return not filename.startswith("plot_"), filename
