{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

-- One row per establishment of a self-employed person and reference date.
with
vestigingen as (
    select
        bedrijven.peildatum,
        peildata.indeling_jaar,
        bedrijven.vestiging_pseudoniem,
        min(bedrijven.sbi_sectie) as sbi_sectie,
        min(bedrijven.gemeente_code) as gemeente_code,
        min(case when bedrijven.indeling_jaar = peildata.indeling_jaar then bedrijven.buurt_code end) as buurt_code
    from {{ ref("stg_zzp__bedrijven") }} as bedrijven
    inner join {{ ref("int_zzp__peildata") }} as peildata on bedrijven.peildatum = peildata.peildatum
    where bedrijven.is_zzp
    group by bedrijven.peildatum, peildata.indeling_jaar, bedrijven.vestiging_pseudoniem
),

geplaatst as (
    select
        vestigingen.peildatum,
        vestigingen.vestiging_pseudoniem,
        coalesce(secties.sector_code, 'ONB') as sector_code,
        hierarchie.buurt_code,
        coalesce(hierarchie.gemeente_code, vestigingen.gemeente_code) as gemeente_code
    from vestigingen
    left join {{ ref("int_regios__hierarchie") }} as hierarchie
        on
            vestigingen.indeling_jaar = hierarchie.indeling_jaar
            and vestigingen.buurt_code = hierarchie.buurt_code
    left join {{ ref("sbi_secties") }} as secties on vestigingen.sbi_sectie = secties.sector_code
)

select
    peildatum,
    vestiging_pseudoniem,
    sector_code,
    buurt_code,
    gemeente_code,
    coalesce(buurt_code, {{ onbekende_buurt("gemeente_code") }}) as basis_code
from geplaatst
