{{ config(enabled=heeft_leveringen("bedrijven", "brp", doel="zzp")) }}

-- One row per self-employed owner and reference date, however many establishments. An owner whom the BRP does not know
-- at that date lives elsewhere: kept here without a place (nobody is lost), counted in no region.
with
eigenaren as (
    select distinct
        bedrijven.peildatum,
        peildata.indeling_jaar,
        bedrijven.eigenaar_pseudoniem as persoon_pseudoniem,
        case
            when extract(day from bedrijven.peildatum) = 1 then bedrijven.peildatum
            else {{ volgende_maand("bedrijven.peildatum") }}
        end as adresdatum
    from {{ ref("stg_zzp__bedrijven") }} as bedrijven
    inner join {{ ref("int_zzp__peildata_eigenaren") }} as peildata on bedrijven.peildatum = peildata.peildatum
    where bedrijven.is_zzp and bedrijven.eigenaar_pseudoniem is not null
),

-- overlapping address periods happen: the last to begin counts, and one that was placed before one that was not
woonplaats as (
    select
        eigenaren.peildatum,
        eigenaren.indeling_jaar,
        eigenaren.persoon_pseudoniem,
        brp.gemeente_code,
        case when brp.indeling_jaar = eigenaren.indeling_jaar then brp.buurt_code end as buurt_code,
        row_number() over (
            partition by eigenaren.peildatum, eigenaren.persoon_pseudoniem
            order by brp.geldig_van desc nulls last, brp.buurt_code asc nulls last
        ) as volgorde
    from eigenaren
    left join {{ ref("stg_zzp__brp") }} as brp
        on
            eigenaren.persoon_pseudoniem = brp.persoon_pseudoniem
            and eigenaren.adresdatum >= brp.geldig_van
            -- `or … is null` here would cost the engine its hash join: hours instead of a second
            and eigenaren.adresdatum < coalesce(brp.geldig_tot, cast('9999-12-31' as date))
            and brp.gemeente_code in ({{ eigen_gemeenten() }})
),

geplaatst as (
    select
        woonplaats.peildatum,
        woonplaats.persoon_pseudoniem,
        hierarchie.buurt_code,
        coalesce(hierarchie.gemeente_code, woonplaats.gemeente_code) as gemeente_code
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
    gemeente_code is not null as is_inwoner,
    buurt_code,
    gemeente_code,
    coalesce(buurt_code, {{ onbekende_buurt("gemeente_code") }}) as basis_code
from geplaatst
