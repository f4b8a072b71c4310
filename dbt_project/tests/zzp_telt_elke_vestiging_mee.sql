{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

-- Establishments in equals establishments placed and in an unknown buurt, by region and by sector alike.
with
uit as (
    select
        periode_start,
        sum(teller) as aantal
    from {{ ref("zzp_per_sector") }}
    where sector_code = 'T001081' and regio_niveau = 'GM'
    group by periode_start
    union all
    select
        periode_start,
        sum(teller) as aantal
    from {{ ref("zzp_per_regio") }}
    where indicator = 'zzp_vestigingen' and regio_niveau = 'GM'
    group by periode_start
),

erin as (
    select
        peildata.periode_start,
        count(distinct bedrijven.vestiging_pseudoniem) as aantal
    from {{ ref("stg_zzp__bedrijven") }} as bedrijven
    inner join {{ ref("int_zzp__peildata") }} as peildata on bedrijven.peildatum = peildata.peildatum
    where bedrijven.is_zzp
    group by peildata.periode_start
)

select 1 as ongelijk
from erin
left join uit on erin.periode_start = uit.periode_start
where erin.aantal != coalesce(uit.aantal, 0)
