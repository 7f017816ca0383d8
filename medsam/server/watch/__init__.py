"""Whether the server is well: its health, its numbers, its log, and what would keep it from starting."""
