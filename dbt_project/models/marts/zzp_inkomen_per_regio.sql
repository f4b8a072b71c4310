-- CBS's own figures, protected by CBS: rounded, and left out where too few persons are behind them.
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

-- the borders of the year itself, else the nearest older ones that know the region, else the nearest newer ones
namen as (
    select
        inkomen.regio_code,
        inkomen.periode_start,
        regios.regio_naam,
        regios.indeling_jaar,
        row_number() over (
            partition by inkomen.regio_code, inkomen.periode_start
            order by
                regios.indeling_jaar > year(inkomen.periode_start),
                abs(regios.indeling_jaar - year(inkomen.periode_start))
        ) as volgorde
    from inkomen
    inner join {{ ref("stg_cbs__regios") }} as regios on inkomen.regio_code = regios.regio_code
    where inkomen.indicator_sleutel = 'zzp_gemiddeld_inkomen_eur1000'
)

select
    inkomen.regio_code,
    coalesce(namen.regio_naam, inkomen.regio_code) as regio_naam,
    inkomen.regio_niveau,
    namen.indeling_jaar,
    cast(cast(year(inkomen.periode_start) as integer) as varchar) as periode,
    inkomen.periode_start,
    'zzp_gemiddeld_inkomen' as indicator,
    {{ cijfer("1000 * inkomen.waarde") }} as waarde,
    cast(null as bigint) as teller,
    personen.noemer,
    'euro' as eenheid,
    case
        when inkomen.waarde is not null then 'verstrekt'
        when inkomen.value_attribute = 'Confidential' then 'geheim'
        when inkomen.value_attribute = 'Impossible' then 'nvt'
        else 'onbekend'
    end as status,
    inkomen.vaststelling,
    inkomen.herkomst
from inkomen
left join personen
    on inkomen.regio_code = personen.regio_code and inkomen.periode_start = personen.periode_start
left join namen
    on
        inkomen.regio_code = namen.regio_code
        and inkomen.periode_start = namen.periode_start
        and namen.volgorde = 1
where inkomen.indicator_sleutel = 'zzp_gemiddeld_inkomen_eur1000'
