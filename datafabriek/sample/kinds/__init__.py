"""Deliveries of kinds that the sample factory does not run: made for tests, examples and whoever wants to try one."""
