{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

with
source as (
    select * from {{ source("raw_bijstand", "brp") }}
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
