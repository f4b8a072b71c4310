with
regios as (
    select * from {{ ref("stg_cbs__regios") }}
),

buurten as (
    select
        buurt.indeling_jaar,
        buurt.regio_code as buurt_code,
        buurt.regio_naam as buurt_naam,
        wijk.regio_code as wijk_code,
        wijk.regio_naam as wijk_naam,
        gemeente.regio_code as gemeente_code,
        gemeente.regio_naam as gemeente_naam,
        {{ zwakste_herkomst(["buurt.herkomst", "wijk.herkomst", "gemeente.herkomst"]) }} as herkomst
    from regios as buurt
    left join regios as wijk
        on buurt.indeling_jaar = wijk.indeling_jaar and buurt.ouder_code = wijk.regio_code
    left join regios as gemeente
        on buurt.indeling_jaar = gemeente.indeling_jaar and buurt.gemeente_code = gemeente.regio_code
    where buurt.regio_niveau = 'BU' and buurt.gemeente_code in ({{ eigen_gemeenten() }})
)

select * from buurten
