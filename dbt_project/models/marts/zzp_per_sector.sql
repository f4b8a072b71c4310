{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

-- Wijken and gemeenten only: a buurt holds too few establishments per sector to tell anything that may be told.
with
peildata as (
    select * from {{ ref("int_zzp__peildata") }}
),

niveaus as (
    select * from {{ ref("int_regios__niveaus") }}
    where regio_niveau in ('WK', 'GM', 'ONB')
),

sectoren as (
    select
        sector_code,
        sector_naam
    from {{ ref("sbi_secties") }}
),

rooster as (
    select distinct
        peildata.peildatum,
        peildata.periode,
        peildata.periode_start,
        peildata.indeling_jaar,
        niveaus.regio_code,
        niveaus.regio_naam,
        niveaus.regio_niveau,
        sectoren.sector_code,
        sectoren.sector_naam,
        peildata.is_geleverd and (peildata.is_geplaatst or niveaus.regio_niveau in ('GM', 'ONB')) as is_bekend,
        {{ zwakste_herkomst(["peildata.herkomst", "niveaus.herkomst"]) }} as herkomst
    from peildata
    inner join niveaus on peildata.indeling_jaar = niveaus.indeling_jaar
    cross join sectoren
),

per_sector as (
    select
        vestigingen.peildatum,
        niveaus.regio_code,
        vestigingen.sector_code,
        count(*) as aantal
    from {{ ref("int_zzp__vestigingen") }} as vestigingen
    inner join peildata on vestigingen.peildatum = peildata.peildatum
    inner join niveaus
        on peildata.indeling_jaar = niveaus.indeling_jaar and vestigingen.basis_code = niveaus.basis_code
    group by vestigingen.peildatum, niveaus.regio_code, vestigingen.sector_code
),

geteld as (
    select * from per_sector
    union all
    select
        peildatum,
        regio_code,
        'T001081' as sector_code,
        sum(aantal) as aantal
    from per_sector
    group by peildatum, regio_code
)

select
    rooster.regio_code,
    rooster.regio_naam,
    rooster.regio_niveau,
    rooster.indeling_jaar,
    rooster.periode,
    rooster.periode_start,
    'zzp_vestigingen' as indicator,
    rooster.sector_code,
    rooster.sector_naam,
    {{ cijfer("case when rooster.is_bekend then coalesce(geteld.aantal, 0) end") }} as waarde,
    cast(case when rooster.is_bekend then coalesce(geteld.aantal, 0) end as bigint) as teller,
    cast(null as bigint) as noemer,
    'vestigingen' as eenheid,
    case when rooster.is_bekend then 'verstrekt' else 'onbekend' end as status,
    'definitief' as vaststelling,
    rooster.herkomst
from rooster
left join geteld
    on
        rooster.peildatum = geteld.peildatum
        and rooster.regio_code = geteld.regio_code
        and rooster.sector_code = geteld.sector_code
