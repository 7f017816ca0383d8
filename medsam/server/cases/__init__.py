"""Cases: scans of folders, uploads and a PACS, found, read, shown and exported."""
