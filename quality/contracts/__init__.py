"""Contracts with suppliers: ODCS 3.1 YAML, one file per kind of delivery, and the model that reads them."""
