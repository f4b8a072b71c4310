with
source as (
    select * from {{ source("raw_leveringen", "stand") }}
),

renamed as (
    select
        levering,
        replace(periode, '-', '') as periode_cijfers,
        levering_id,
        status,
        geleverd,
        geaccepteerd,
        geweigerd,
        buurt_onbekend
    from source
)

select * from renamed
