-- What stands in one base unit (a buurt, or the unknown buurt of a gemeente) counts for every region above it. Every
-- total is made through this one table, so the parts add up to it by construction.
with
hierarchie as (
    select * from {{ ref("int_regios__hierarchie") }}
),

gemeenten as (
    select
        indeling_jaar,
        gemeente_code,
        gemeente_naam,
        {{ onbekende_buurt("gemeente_code") }} as onbekend_code,
        {{ zwakste_van("herkomst") }} as herkomst
    from hierarchie
    group by indeling_jaar, gemeente_code, gemeente_naam
),

niveaus as (
    select
        indeling_jaar,
        buurt_code as basis_code,
        buurt_code as regio_code,
        buurt_naam as regio_naam,
        'BU' as regio_niveau,
        wijk_code as ouder_code,
        gemeente_code,
        herkomst
    from hierarchie
    union all
    select
        indeling_jaar,
        buurt_code as basis_code,
        wijk_code as regio_code,
        wijk_naam as regio_naam,
        'WK' as regio_niveau,
        gemeente_code as ouder_code,
        gemeente_code,
        {{ zwakste_van("herkomst", per=["indeling_jaar", "wijk_code"]) }} as herkomst
    from hierarchie
    union all
    select
        indeling_jaar,
        buurt_code as basis_code,
        gemeente_code as regio_code,
        gemeente_naam as regio_naam,
        'GM' as regio_niveau,
        cast(null as varchar) as ouder_code,
        gemeente_code,
        {{ zwakste_van("herkomst", per=["indeling_jaar", "gemeente_code"]) }} as herkomst
    from hierarchie
    union all
    select
        indeling_jaar,
        onbekend_code as basis_code,
        onbekend_code as regio_code,
        {{ samengevoegd(["'Onbekende buurt in '", "gemeente_naam"]) }} as regio_naam,
        'ONB' as regio_niveau,
        gemeente_code as ouder_code,
        gemeente_code,
        herkomst
    from gemeenten
    union all
    select
        indeling_jaar,
        onbekend_code as basis_code,
        gemeente_code as regio_code,
        gemeente_naam as regio_naam,
        'GM' as regio_niveau,
        cast(null as varchar) as ouder_code,
        gemeente_code,
        herkomst
    from gemeenten
)

select * from niveaus
