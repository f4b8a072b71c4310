with
source as (
    select * from {{ source("raw_cbs", "kerncijfers_wijken_en_buurten") }}
),

renamed as (
    select
        tabel_id,
        cast(jaar as integer) as jaar,
        regio_code,
        regio_niveau,
        gemeente_code,
        indicator_sleutel,
        eenheid,
        waarde,
        value_attribute,
        {{ vaststelling("periode_status") }} as vaststelling,
        herkomst
    from source
    where indicator_sleutel is not null
)

select * from renamed
