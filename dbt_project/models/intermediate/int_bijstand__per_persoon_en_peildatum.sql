{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

-- One row per person and month, however many benefits, partners' records or municipalities name the person.
with
peildata as (
    select * from {{ ref("int_bijstand__peildata") }}
),

lopend as (
    select
        peildata.peildatum,
        peildata.indeling_jaar,
        bus.persoon_pseudoniem,
        min(bus.gemeente_code) as uitkerende_gemeente_code
    from {{ ref("stg_bijstand__bus") }} as bus
    inner join peildata on bus.statistiekmaand = peildata.periode_start
    where bus.is_algemene_bijstand and bus.is_lopend
    group by peildata.peildatum, peildata.indeling_jaar, bus.persoon_pseudoniem
),

-- overlapping address periods happen: the last to begin counts, and one that was placed before one that was not
woonplaats as (
    select
        lopend.*,
        brp.gemeente_code as woongemeente_code,
        case when brp.indeling_jaar = lopend.indeling_jaar then brp.buurt_code end as buurt_code,
        row_number() over (
            partition by lopend.peildatum, lopend.persoon_pseudoniem
            order by brp.geldig_van desc nulls last, brp.buurt_code asc nulls last
        ) as volgorde
    from lopend
    left join {{ ref("stg_bijstand__brp") }} as brp
        on
            lopend.persoon_pseudoniem = brp.persoon_pseudoniem
            and lopend.peildatum >= brp.geldig_van
            -- `or … is null` here would cost the engine its hash join: hours instead of a second
            and lopend.peildatum < coalesce(brp.geldig_tot, cast('9999-12-31' as date))
            and brp.gemeente_code in ({{ eigen_gemeenten() }})
),

-- who is not found in the BRP lives, for all we know, in an unknown buurt of the municipality that pays
geplaatst as (
    select
        woonplaats.peildatum,
        woonplaats.persoon_pseudoniem,
        hierarchie.buurt_code,
        coalesce(
            hierarchie.gemeente_code, woonplaats.woongemeente_code, woonplaats.uitkerende_gemeente_code
        ) as gemeente_code
    from woonplaats
    left join {{ ref("int_regios__hierarchie") }} as hierarchie
        on
            woonplaats.indeling_jaar = hierarchie.indeling_jaar
            and woonplaats.buurt_code = hierarchie.buurt_code
    where woonplaats.volgorde = 1
)

select
    peildatum,
    persoon_pseudoniem,
    buurt_code,
    gemeente_code,
    coalesce(buurt_code, {{ onbekende_buurt("gemeente_code") }}) as basis_code
from geplaatst
