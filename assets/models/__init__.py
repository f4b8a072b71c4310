"""The dbt models: how they are run in process (runner), whom they may link (purposes), and their Dagster assets."""
