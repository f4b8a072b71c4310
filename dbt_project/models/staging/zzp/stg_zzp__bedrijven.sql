{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

with
source as (
    select * from {{ source("raw_zzp", "bedrijven") }}
),

renamed as (
    select
        cast(peildatum as date) as peildatum,
        vestiging_pseudoniem,
        eigenaar_pseudoniem,
        sbi_sectie,
        is_zzp,
        buurt_code,
        gemeente_code,
        cast(indeling_jaar as integer) as indeling_jaar,
        herkomst
    from source
)

select * from renamed
