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

geplaatst as (
    {{ geplaatst_door_brp("eigenaren", ref("stg_zzp__brp"), datum="adresdatum") }}
)

select
    peildatum,
    persoon_pseudoniem,
    gemeente_code is not null as is_inwoner,
    buurt_code,
    gemeente_code,
    coalesce(buurt_code, {{ onbekende_buurt("gemeente_code") }}) as basis_code
from geplaatst
