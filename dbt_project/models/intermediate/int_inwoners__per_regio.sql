-- CBS publishes key figures of a year in the borders of that year: `jaar` is both.
with
kerncijfers as (
    select * from {{ ref("stg_cbs__kerncijfers") }}
),

inwoners as (
    select
        jaar,
        regio_code,
        {{ heel("waarde") }} as aantal_inwoners,
        vaststelling,
        herkomst
    from kerncijfers
    where indicator_sleutel = 'aantal_inwoners'
)

select * from inwoners
