"""CBS open data: the client, the landing, and the tables made from it."""
