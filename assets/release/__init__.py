"""Stages 5 and 6: the gate that protects marts per audience, and the release of what passed it."""
