-- The factory's own regions, those they lie in, and the unknown buurt of each municipality.
with
eigen as (
    select distinct
        regio_code,
        regio_naam,
        regio_niveau,
        indeling_jaar,
        ouder_code,
        gemeente_code,
        herkomst
    from {{ ref("int_regios__niveaus") }}
    where regio_niveau != 'GM'
),

hogere as (
    select
        regio_code,
        regio_naam,
        regio_niveau,
        indeling_jaar,
        ouder_code,
        case when regio_niveau = 'GM' then regio_code end as gemeente_code,
        herkomst
    from {{ ref("stg_cbs__regios") }}
    where
        regio_niveau in ('NL', 'LD', 'PV', 'CR')
        or (regio_niveau = 'GM' and regio_code in ({{ eigen_gemeenten() }}))
)

select * from eigen
union all
select * from hogere
