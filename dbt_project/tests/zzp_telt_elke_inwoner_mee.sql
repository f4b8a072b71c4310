{{ config(enabled=heeft_leveringen("bedrijven", "brp", doel="zzp")) }}

-- Owners in equals owners placed, in an unknown buurt, and living elsewhere.
with
uit as (
    select
        periode_start,
        sum(teller) as aantal
    from {{ ref("zzp_per_regio") }}
    where indicator = 'zzp_woonachtig' and regio_niveau = 'GM'
    group by periode_start
),

elders as (
    select
        peildatum,
        count(*) as aantal
    from {{ ref("int_zzp__per_eigenaar_en_peildatum") }}
    where not is_inwoner
    group by peildatum
),

erin as (
    select
        peildata.periode_start,
        bedrijven.peildatum,
        count(distinct bedrijven.eigenaar_pseudoniem) as aantal
    from {{ ref("stg_zzp__bedrijven") }} as bedrijven
    inner join {{ ref("int_zzp__peildata_eigenaren") }} as peildata on bedrijven.peildatum = peildata.peildatum
    where bedrijven.is_zzp and peildata.is_geleverd
    group by peildata.periode_start, bedrijven.peildatum
)

select 1 as ongelijk
from erin
left join uit on erin.periode_start = uit.periode_start
left join elders on erin.peildatum = elders.peildatum
where erin.aantal != coalesce(uit.aantal, 0) + coalesce(elders.aantal, 0)
