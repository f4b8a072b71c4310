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

-- who is not found in the BRP lives, for all we know, in an unknown buurt of the municipality that pays
geplaatst as (
    {{ geplaatst_door_brp("lopend", ref("stg_bijstand__brp"), anders="uitkerende_gemeente_code") }}
)

select
    peildatum,
    persoon_pseudoniem,
    buurt_code,
    gemeente_code,
    coalesce(buurt_code, {{ onbekende_buurt("gemeente_code") }}) as basis_code
from geplaatst
