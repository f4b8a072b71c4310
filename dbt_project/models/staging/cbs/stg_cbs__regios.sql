with
source as (
    select * from {{ source("raw_cbs", "regios") }}
),

renamed as (
    select
        cast(indeling_jaar as integer) as indeling_jaar,
        regio_code,
        regio_naam,
        regio_niveau,
        ouder_code,
        gemeente_code,
        herkomst
    from source
)

select * from renamed
