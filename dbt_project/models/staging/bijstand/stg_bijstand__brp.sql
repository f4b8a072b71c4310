{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

{{ adresperioden(source("raw_bijstand", "brp")) }}
