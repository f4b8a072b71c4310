"""CBS open data: the client for any StatLine table, and the assets made from landed tables."""
