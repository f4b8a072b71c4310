-- CBS's own figures, protected by CBS: rounded, and left out where too few persons are behind them. What the
-- self-employed earn it tells per gemeente; below that, how many of the workers they are and what inhabitants earn.
with
inkomen as (
    select * from {{ ref("stg_cbs__zzp_inkomen") }}
),

personen as (
    select
        regio_code,
        periode_start,
        {{ heel("waarde * case when eenheid like '%1 000%' or eenheid like '%1.000%' then 1000 else 1 end") }} as noemer
    from inkomen
    where indicator_sleutel = 'zzp_personen'
),

cijfers as (
    select
        inkomen.regio_code,
        inkomen.regio_niveau,
        case when inkomen.regio_niveau = 'GM' then inkomen.regio_code end as gemeente_code,
        inkomen.periode_start,
        'zzp_gemiddeld_inkomen' as indicator,
        1000 * inkomen.waarde as waarde,
        personen.noemer,
        'euro' as eenheid,
        inkomen.value_attribute,
        inkomen.vaststelling,
        inkomen.herkomst
    from inkomen
    left join personen
        on inkomen.regio_code = personen.regio_code and inkomen.periode_start = personen.periode_start
    where inkomen.indicator_sleutel = 'zzp_gemiddeld_inkomen_eur1000'
    union all
    select
        regio_code,
        regio_niveau,
        gemeente_code,
        cast({{ samengevoegd(["cast(jaar as varchar)", "'-01-01'"]) }} as date) as periode_start,
        case indicator_sleutel
            when 'zelfstandigen_pct' then 'zelfstandigen_pct' else 'gemiddeld_inkomen_per_inwoner'
        end as indicator,
        case indicator_sleutel when 'zelfstandigen_pct' then waarde else 1000 * waarde end as waarde,
        cast(null as bigint) as noemer,
        case indicator_sleutel when 'zelfstandigen_pct' then 'procent' else 'euro' end as eenheid,
        value_attribute,
        vaststelling,
        herkomst
    from {{ ref("stg_cbs__kerncijfers") }}
    where indicator_sleutel in ('zelfstandigen_pct', 'gemiddeld_inkomen_per_inwoner_eur1000')
),

perioden as (
    select distinct
        regio_code,
        periode_start
    from cijfers
),

-- the borders of the year itself, else the nearest older ones that know the region, else the nearest newer ones
namen as (
    select
        perioden.regio_code,
        perioden.periode_start,
        regios.regio_naam,
        regios.indeling_jaar,
        row_number() over (
            partition by perioden.regio_code, perioden.periode_start
            order by
                regios.indeling_jaar > year(perioden.periode_start),
                abs(regios.indeling_jaar - year(perioden.periode_start))
        ) as volgorde
    from perioden
    inner join {{ ref("stg_cbs__regios") }} as regios on perioden.regio_code = regios.regio_code
)

select
    cijfers.regio_code,
    coalesce(namen.regio_naam, cijfers.regio_code) as regio_naam,
    cijfers.regio_niveau,
    cijfers.gemeente_code,
    namen.indeling_jaar,
    cast(cast(year(cijfers.periode_start) as integer) as varchar) as periode,
    cijfers.periode_start,
    cijfers.indicator,
    {{ cijfer("cijfers.waarde") }} as waarde,
    cast(null as bigint) as teller,
    cijfers.noemer,
    cijfers.eenheid,
    case
        when cijfers.waarde is not null then 'verstrekt'
        when cijfers.value_attribute = 'Confidential' then 'geheim'
        when cijfers.value_attribute = 'Impossible' then 'nvt'
        else 'onbekend'
    end as status,
    cijfers.vaststelling,
    cijfers.herkomst
from cijfers
left join namen
    on
        cijfers.regio_code = namen.regio_code
        and cijfers.periode_start = namen.periode_start
        and namen.volgorde = 1
