{{ config(enabled=heeft_leveringen("bus", "brp", doel="bijstand")) }}

-- The stand at the end of a month is that of the first of the next at 0:00, because addresses are coarsened to firsts
-- of months. Every month from the first to the last is here: one that was not delivered is a gap, not a zero.
with
bus as (
    select
        statistiekmaand,
        {{ zwakste_van("herkomst") }} as herkomst
    from {{ ref("stg_bijstand__bus") }}
    group by statistiekmaand
),

stand as (
    select
        try_cast(
            substr(periode_cijfers, 1, 4) || '-' || substr(periode_cijfers, 5, 2) || '-01' as date
        ) as statistiekmaand,
        max(case when status = 'ontvangen' then 1 else 0 end) as is_ontvangen
    from {{ ref("stg_leveringen__stand") }}
    where levering = 'bus' and length(periode_cijfers) >= 6
    group by statistiekmaand
),

grenzen as (
    select
        min(statistiekmaand) as eerste,
        max(statistiekmaand) as laatste
    from (
        select statistiekmaand from bus
        union all
        select statistiekmaand from stand
    ) as bekend
),

maanden as (
    select {{ maandreeks("eerste", "laatste") }} as statistiekmaand from grenzen
),

plaatsing as (
    {{ plaatsing(ref("stg_bijstand__brp")) }}
),

peildata as (
    select
        {{ volgende_maand("maanden.statistiekmaand") }} as peildatum,
        substr(cast(maanden.statistiekmaand as varchar), 1, 7) as periode,
        maanden.statistiekmaand as periode_start,
        cast(year(maanden.statistiekmaand) as integer) as jaar,
        plaatsing.indeling_jaar,
        bus.statistiekmaand is not null or coalesce(stand.is_ontvangen, 0) = 1 as is_geleverd,
        plaatsing.is_geplaatst,
        {{ zwakste_herkomst(
            ["coalesce(bus.herkomst, " ~ eigen_herkomst() ~ ")", "plaatsing.herkomst"]
        ) }} as herkomst
    from maanden
    cross join plaatsing
    left join bus on maanden.statistiekmaand = bus.statistiekmaand
    left join stand on maanden.statistiekmaand = stand.statistiekmaand
)

select * from peildata
