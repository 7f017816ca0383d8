"""Who may come in: users, logins and tokens, and what a request must look like before a room sees it."""
