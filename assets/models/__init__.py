"""The dbt models: how they are run in process (runner), and their Dagster assets."""
