{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

-- Persons in equals persons placed and persons in an unknown buurt: nobody is lost on the way from register to mart.
with
uit as (
    select
        periode_start,
        sum(teller) as aantal
    from {{ ref("bijstand_per_regio") }}
    where indicator = 'bijstand_personen' and regio_niveau = 'GM'
    group by periode_start
),

erin as (
    select
        statistiekmaand as periode_start,
        count(distinct persoon_pseudoniem) as aantal
    from {{ ref("stg_bijstand__bus") }}
    where is_algemene_bijstand and is_lopend
    group by statistiekmaand
)

select 1 as ongelijk
from erin
left join uit on erin.periode_start = uit.periode_start
where erin.aantal != coalesce(uit.aantal, 0)
