"""Municipal deliveries: read by layout, judged by contract, kept in the vault, handed out per purpose."""
