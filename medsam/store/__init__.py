"""What the server keeps: readers, cases, sessions and masks in one SQLite file. `Store` is the door (`store.store`)."""
