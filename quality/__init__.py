"""What the factory demands: contracts, schemas, checks, privacy and disclosure control."""
