{{ config(enabled=heeft_leveringen("bedrijven", "brp", doel="zzp")) }}

{{ adresperioden(source("raw_zzp", "brp")) }}
