{{ config(enabled=heeft_leveringen("bedrijven", doel="zzp")) }}

-- One reference date a year, the first that was delivered (as a rule 1 January). Years between the first and the last
-- that were not delivered are gaps.
with
bedrijven as (
    select
        cast(year(peildatum) as integer) as jaar,
        min(peildatum) as peildatum,
        {{ zwakste_van("herkomst") }} as herkomst
    from {{ ref("stg_zzp__bedrijven") }}
    group by 1
),

stand as (
    select
        try_cast(substr(periode_cijfers, 1, 4) as integer) as jaar,
        max(case when status = 'ontvangen' then 1 else 0 end) as is_ontvangen
    from {{ ref("stg_leveringen__stand") }}
    where levering = 'bedrijven'
    group by 1
),

grenzen as (
    select
        min(jaar) as eerste,
        max(jaar) as laatste
    from (
        select jaar from bedrijven
        union all
        select jaar from stand
    ) as bekend
),

jaren as (
    select cast(year(maand) as integer) as jaar
    from (
        select
            {{ maandreeks("cast(eerste || '-01-01' as date)", "cast(laatste || '-01-01' as date)") }} as maand
        from grenzen
    ) as maanden
    where month(maand) = 1
),

plaatsing as (
    {{ plaatsing(ref("stg_zzp__bedrijven")) }}
),

peildata as (
    select
        coalesce(bedrijven.peildatum, cast(jaren.jaar || '-01-01' as date)) as peildatum,
        cast(jaren.jaar as varchar) as periode,
        cast(jaren.jaar || '-01-01' as date) as periode_start,
        jaren.jaar,
        plaatsing.indeling_jaar,
        bedrijven.jaar is not null or coalesce(stand.is_ontvangen, 0) = 1 as is_geleverd,
        plaatsing.is_geplaatst,
        {{ zwakste_herkomst(
            ["coalesce(bedrijven.herkomst, " ~ eigen_herkomst() ~ ")", "plaatsing.herkomst"]
        ) }} as herkomst
    from jaren
    cross join plaatsing
    left join bedrijven on jaren.jaar = bedrijven.jaar
    left join stand on jaren.jaar = stand.jaar
)

select * from peildata
