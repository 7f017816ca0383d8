"""The version, for those who need it and not the public names."""

__version__ = "0.1.0"
