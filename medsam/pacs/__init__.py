"""Doors to a PACS: servers by name, DICOMweb and DIMSE, and a receiver."""


def is_remote(text: str) -> bool:
    """Whether a scan is named as one on a server, `dicomweb:NAME/STUDY/SERIES`; it may be named wrong."""
    return text.startswith(("dicomweb:", "dimse:"))
