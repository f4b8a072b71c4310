"""Privacy: keys, pseudonyms, and the policy under which personal data may be used. Knows no Dagster."""
