{{ config(enabled=heeft_leveringen("bedrijven", "brp", doel="zzp")) }}

with
source as (
    select * from {{ source("raw_zzp", "brp") }}
),

renamed as (
    select
        persoon_pseudoniem,
        buurt_code,
        gemeente_code,
        cast(indeling_jaar as integer) as indeling_jaar,
        geldig_van,
        geldig_tot,
        herkomst
    from source
)

select * from renamed
