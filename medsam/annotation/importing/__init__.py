"""Masks from elsewhere, for scans of a project. Its door is `bring_in.import_masks`.

`sources` finds what there is, in any layout; `label_sources` and `slice_sources` read files of a whole scan and of
single slices; `matching` says which scan they belong to.
"""
