"""The reading room's page: files that are built from `viewer/`, read once, and handed out as they are."""
