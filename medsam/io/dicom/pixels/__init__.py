"""The pixels of DICOM files: `read.read_frames` decodes them (`decoders`, `gdcm`) and makes values (`processing`)."""
