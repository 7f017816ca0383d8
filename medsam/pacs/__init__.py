"""Doors to a PACS: servers by name, DICOMweb and DIMSE, and a receiver."""
