"""Masks of a project as data sets of others' layouts. Its door is `export.export`.

`content` is what is exported of a scan; `folders`, `slices` and `table` are the layouts; `card` describes the data set.
"""
