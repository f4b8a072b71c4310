{{ config(enabled=heeft_leveringen("bus", doel="bijstand")) }}

with
source as (
    select * from {{ source("raw_bijstand", "bus") }}
),

renamed as (
    select
        cast(statistiekmaand as date) as statistiekmaand,
        gemeente_code,
        persoon_pseudoniem,
        regeling_code = '01' as is_algemene_bijstand,
        is_lopend,
        herkomst
    from source
)

select * from renamed
