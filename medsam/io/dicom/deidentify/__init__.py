"""DICOM made fit to leave the house: DICOM PS3.15, annex E, Basic Application Level Confidentiality Profile.

`options` says what is kept, `keys` makes names and numbers anew, `table` says what happens to which element and `tags`
lists them, `walker` does it (texts by `texts`, codes by `codes`, structures by `structures`), `pixels` judges and
blackens the picture (on `codestreams`), `folder` goes through the files and `report` counts.
"""
