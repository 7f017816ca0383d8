"""Pictures: overlays of masks as arrays, previews of segmentations, and the colours of both."""
