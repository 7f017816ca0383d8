"""DICOM: `series.read_dicom` (files or a folder -> `Volume`), `seg` and `rtstruct` (labels), `tree` (many series)."""
