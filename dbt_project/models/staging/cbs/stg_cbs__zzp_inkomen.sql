with
source as (
    select * from {{ source("raw_cbs", "zzp_inkomen") }}
),

renamed as (
    select
        tabel_id,
        regio_code,
        substr(regio_code, 1, 2) as regio_niveau,
        cast(periode_start as date) as periode_start,
        indicator_sleutel,
        eenheid,
        waarde,
        value_attribute,
        {{ vaststelling("periode_status") }} as vaststelling,
        herkomst
    from source
    where indicator_sleutel is not null and periode_frequentie = 'jaar'
)

select * from renamed
